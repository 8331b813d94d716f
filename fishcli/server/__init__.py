"""The HTTP API: that of Fish Speech and fish.audio, and OpenAI's for speech, over one engine."""
