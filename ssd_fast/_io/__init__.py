"""Text, paths and files that users name: shown safely, read only if regular, written whole."""
