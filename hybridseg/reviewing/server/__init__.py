"""The local server: what it answers (api, messages), whom (guard), and how long (serving)."""
