"""``python -m fovigraph``: the command line."""

from fovigraph.cli import main

raise SystemExit(main())
