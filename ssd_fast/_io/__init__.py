"""Handle text, paths and files from users: show them safely, read only regular files, write whole files."""
