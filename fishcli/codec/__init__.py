"""The codec (Firefly): waveform to codes and back."""
