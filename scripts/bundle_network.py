"""Makes the files of a network that comes with the package from a training run.

    python scripts/bundle_network.py RUN NAME [KEY=VALUE …]

Weights are rounded to half precision, which halves the file; overrides change the configuration,
for instance retina.acuity. The run's recipe and figures go along. The card, README.md, is for a
person to write.
"""

import shutil
import sys
from pathlib import Path

import fovigraph as fg
from fovigraph.models.pretrained import BUNDLED, load_weights


def main(run: str, name: str, *overrides: str) -> None:
    """Writes the folder, and says how large its weights are."""
    source, target = Path(run), BUNDLED / name
    net = fg.FoviNet(fg.load_config(source / "config.yaml", overrides))
    load_weights(net, source / "model.safetensors")
    net.half().save_pretrained(target)
    for file in ("recipe.yaml", "metrics.csv"):
        shutil.copyfile(source / file, target / file)
    print(
        f"{target / 'model.safetensors'}: {(target / 'model.safetensors').stat().st_size:,} bytes"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
