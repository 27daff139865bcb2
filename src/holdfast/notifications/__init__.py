"""Mails: who hears of what happened, in which words; and the page where development reads them. Sending is the adapter's."""
