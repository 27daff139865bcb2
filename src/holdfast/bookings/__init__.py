"""Everything that takes or gives back: bookings, holds, closures, ending an account."""
