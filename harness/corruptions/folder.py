"""A folder of the user's own images as a condition: the real world itself."""

from typing import ClassVar, Literal

from harness.corruptions.base import Condition


class Folder(Condition):
    """Other images of the same classes, in one folder a class: taken by the cameras that will be used.

    Only the specification lives here. Reading such a folder is the data sets' business, so the step that scores
    the condition loads it, at the data set's resolution, and checks that the classes are the model's.
    """

    GROUP = "folder"
    LEVELS = 1
    PATH_FIELDS: ClassVar[frozenset[str]] = frozenset({"path"})

    name: Literal["folder"] = "folder"
    severities: tuple[int, ...] = (1,)
    """There is one severity: the images as they are."""
    path: str
    """The folder; it holds one folder of images a class, named as the data set's classes are."""
