"""Looking back: analytics, exports, the audit log, and every change in order. Reads only; nothing here changes anything."""
