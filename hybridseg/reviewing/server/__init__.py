"""The local server: what it answers (api, learning, messages), whom (guard), and how long (serving)."""
