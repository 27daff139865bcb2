"""Calendars (RFC 5545): a booking's file, private feeds of a user's or a room's bookings, free/busy. Mails are not sent here."""
