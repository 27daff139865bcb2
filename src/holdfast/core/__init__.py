"""What every floor above may use: settings, clock, errors, security, logging, schedules, slot ids."""
