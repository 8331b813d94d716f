"""The language model: text and codes in, the codes of new speech out."""
