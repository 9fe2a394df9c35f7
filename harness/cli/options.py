"""Arguments and options that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

SuiteArgument = Annotated[str, typer.Argument(metavar="SUITE", help="Name of a shipped suite, or the path of a .yaml file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Override a field of the suite; repeatable.")]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the results [results/<suite>].")]
StoreOption = Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Finished steps [results/.store].")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:1.")]
