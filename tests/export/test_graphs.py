import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from harness.datasets.decoding import resized
from harness.export.graphs import DeployGraph
from harness.export.runtime import OnnxModel

from .conftest import SIDE, pixels


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize(("height", "width"), [(40, 60), (61, 20), (SIDE, SIDE), (7, 9), (301, 402)])
def test_deployed_network_sees_the_pixels_that_were_measured(resize, height, width):
    network = torch.nn.Flatten()
    seen = []
    network.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    image = pixels(1, height, width)
    DeployGraph(network, resolution=SIDE, resize=resize)(image)
    assert torch.equal(seen[0][0], resized(image[0].permute(2, 0, 1), SIDE, resize))


def test_resize_stays_within_a_grey_level_of_pillow_s():
    for photograph in load_sample_images().images:
        ours = resized(torch.from_numpy(photograph.copy()).permute(2, 0, 1), 224) * 255
        pillow = np.array(Image.fromarray(photograph).resize((224, 224), Image.Resampling.BILINEAR))
        difference = (ours - torch.from_numpy(pillow).permute(2, 0, 1)).abs()
        assert float(difference.max()) < 1.2
        assert float(difference.mean()) < 0.4


@pytest.mark.parametrize(("height", "width"), [(33, 48), (300, 200), (64, 64), (10, 12)])
def test_deploy_file_takes_any_size_and_returns_probabilities(height, width, classifier, deploy_file):
    deployed = OnnxModel(deploy_file)
    image = pixels(1, height, width)
    found = deployed.logits(image)
    x = resized(image[0].permute(2, 0, 1), SIDE, deployed.metadata.resize)
    with torch.no_grad():
        expected = classifier(x[None]).softmax(dim=1).numpy()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found - expected).max() < 1e-4
