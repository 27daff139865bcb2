"""Users, log-in, tokens. Deleting an account gives bookings back, so it lives in `bookings`."""
