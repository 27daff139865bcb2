"""`python -m holdfast.cli`, for where the `holdfast` command is not on the path."""

from holdfast.cli import main

# Server processes import this module again.
if __name__ == "__main__":
    main()
