"""What every bookable thing has, whatever its kind: a policy, a schedule, slots of a range with their status."""
