"""Events: what there is to book at one time, seat by seat."""
