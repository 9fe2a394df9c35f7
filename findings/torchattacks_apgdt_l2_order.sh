#!/bin/sh
# torchattacks 3.5.1 (torch 2.15.0): APGDT in L2 steps with the step size of the batch's first example (`step_size[0]`).
#
# Seen, on 8 random images and a random network with a hidden layer, 40 steps within 1.0 in L2, all starts alike: attacked in the reverse
# order, an image ends with a pixel that differs by 0.026; in Linf (0.01), where each example has its own step size, all end
# equal. So a result in L2 depends on which example comes first in its batch. APGD itself, and APGDT in Linf, halve the step of each
# example, as the paper does (Croce and Hein 2020, https://arxiv.org/abs/2003.01690).
#
# Usage: findings/torchattacks_apgdt_l2_order.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.15.0 torchvision==0.29.2 scipy==1.17.1 numpy==2.4.6 tqdm==4.70.1 requests==2.34.2
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import sys

import torch
import torchattacks

torch.manual_seed(0)
x, y = torch.rand(8, 3, 8, 8), torch.arange(8) % 4
network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 32), torch.nn.Tanh(), torch.nn.Linear(32, 4)).eval()
with torch.no_grad():
    y = network(x).argmax(1)  # the attack looks at what is right


def attacked(norm, eps, order):
    torch.manual_seed(0)
    attack = torchattacks.APGDT(network, norm=norm, eps=eps, steps=40, n_classes=4, n_restarts=1)
    draw = torch.rand, torch.randn
    torch.rand = torch.randn = lambda *size, **options: torch.full(tuple(size[0]) if len(size) == 1 else size, 0.7)
    try:
        found = attack(x[order], y[order])
    finally:
        torch.rand, torch.randn = draw
    return found[order.argsort()]


forwards, backwards = torch.arange(8), torch.arange(8).flip(0)
moved = {}
for norm, eps in (("L2", 1.0), ("Linf", 0.01)):
    moved[norm] = (attacked(norm, eps, forwards) - attacked(norm, eps, backwards)).abs().max().item()
    print(f"{norm}: largest change of a pixel by the order of the batch: {moved[norm]:.2g}")
sys.exit(not (moved["L2"] > 0.01 and moved["Linf"] < 1e-5))
PY
