"""The store of random features that fit-mil and compare hold a run against."""

import click

from cli.store_path import StorePath

random_store_option = click.option(
    "--random-store",
    metavar="STORE",
    type=StorePath(),
    help="The same cohort embedded with --weights random:SEED: the floor random_encoder.",
)
NO_RANDOM_STORE = (
    "no floor random_encoder: make one with `aml-mil embed COHORT --encoder NAME --weights "
    "random:0 --out random.zarr` and give it as --random-store random.zarr"
)
