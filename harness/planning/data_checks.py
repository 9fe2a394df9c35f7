"""What a suite asks of its data, checked before anything is trained: the user's folders, and every poison at every rate."""

from harness.datasets.base import expand_path
from harness.datasets.decoding import Resize
from harness.datasets.image_folder import FileSplit, read_class_folders
from harness.errors import DataError, SuiteError, naming
from harness.images import ImageData
from harness.poisoning.frame import check_data
from harness.suites.suite import Suite


def read_folders(suite: Suite, data: ImageData) -> dict[str, FileSplit]:
    """Reads and checks every folder of images, which are decoded and resized as those of the data set."""
    resize: Resize = getattr(suite.dataset, "resize", "squash")
    found: dict[str, FileSplit] = {}
    for label, entry in suite.folders.items():
        with naming(f"folders.{label}.root: ", DataError):
            root, resolution = expand_path(entry.root), suite.dataset.resolution
            found[label] = read_class_folders(root, data.class_names, resolution=resolution, resize=resize)
    return found


def unsupported_poisons(suite: Suite, data: ImageData) -> dict[tuple[str, float], str]:
    """Checks every poison at every rate before anything is trained; returns the reasons of those that can't be made.

    Where crafting uses a network, the check is given one of the same architecture that is not trained.
    """
    reasons: dict[tuple[str, float], str] = {}
    for label, entry in suite.poisons.items():
        model = None
        if entry.plugin.NEEDS_MODEL:
            architecture = suite.architecture_of(next(iter(suite.models))).without_weights()
            model = architecture.build(data.class_names, resolution=suite.dataset.resolution, seed=0)
        for rate in entry.rates:
            try:
                check_data(entry.plugin, data, rate)
            except SuiteError as error:
                raise SuiteError(str(error).replace(entry.plugin.where, f"poisons.{label}", 1)) from error
            if reason := entry.plugin.supports(data, rate, model):
                reasons[label, rate] = reason
    return reasons
