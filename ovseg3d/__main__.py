"""`python -m ovseg3d` is the command `ovseg3d`."""

from ovseg3d.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
