"""Rooms, bays, desks, courts: what they are, when they are open, which slots they have. Taking slots is in `bookings`."""
