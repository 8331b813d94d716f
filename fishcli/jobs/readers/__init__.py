"""Read a job from a file: lines of text, of JSON or CSV, or a book."""
