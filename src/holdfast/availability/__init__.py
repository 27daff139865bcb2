"""Which rooms are free, when: one search over all rooms. A room's own slots are in `rooms`, taking them is in `bookings`."""
