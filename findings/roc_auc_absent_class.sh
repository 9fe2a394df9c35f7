#!/bin/sh
# scikit-learn 1.9.1 (numpy 2.4.6): what roc_auc_score says of several classes when one has no example among the labels.
#
# Seen, on one sample of 4 classes, class 3 absent:
#   labels left out          ValueError: Number of classes in y_true not equal to the number of columns in 'y_score'
#   ovr, macro               nan, and a warning
#   ovr, weighted            a number: the absent class has weight 0
#   ovr, average=None        a number for each class that occurs, nan for the absent one
#   ovo, macro               a number, without a warning: pairs with the absent class are left out
#   ovr, micro, where all examples are of one class: a number, although no class has positives and negatives
# So the same predictions have an AUC or none, by a setting that reads like a detail. The harness's `roc_auc_macro` is the mean of
# what average=None gives, over the classes that occur (docs/checks.md).
#
# Usage: findings/roc_auc_absent_class.sh     exits with 0 as long as it is so
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import math
import sys
import warnings

import numpy as np
import sklearn
from sklearn.metrics import roc_auc_score

rng = np.random.default_rng(0)
labels = rng.integers(0, 3, 60)
scores = rng.random((60, 4))
scores[np.arange(60), labels] += 0.3
scores /= scores.sum(axis=1, keepdims=True)


def auc(y, p, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            return roc_auc_score(y, p, **settings), len(caught)
        except ValueError as error:
            return str(error), 0


classes = np.arange(4)
refused, _ = auc(labels, scores, multi_class="ovr")
macro, macro_warnings = auc(labels, scores, multi_class="ovr", labels=classes)
weighted, _ = auc(labels, scores, multi_class="ovr", average="weighted", labels=classes)
each, _ = auc(labels, scores, multi_class="ovr", average=None, labels=classes)
pairs, pairs_warnings = auc(labels, scores, multi_class="ovo", labels=classes)
alone = labels == 1
micro, _ = auc(labels[alone], scores[alone], multi_class="ovr", average="micro", labels=classes)
print(f"scikit-learn {sklearn.__version__}, classes {sorted(set(labels.tolist()))} of 4")
print("labels left out        ", refused)
print("ovr, macro             ", macro, f"({macro_warnings} warning)")
print("ovr, weighted          ", weighted)
print("ovr, average=None      ", each)
print("  its mean, classes that occur", np.nanmean(each))
print("ovo, macro             ", pairs, f"({pairs_warnings} warnings)")
print("ovr, micro, one class only ", micro)
checks = [
    isinstance(refused, str),
    isinstance(macro, float) and math.isnan(macro) and macro_warnings > 0,
    math.isfinite(weighted),
    np.isnan(each).tolist() == [False, False, False, True],
    math.isfinite(pairs) and pairs_warnings == 0,
    math.isfinite(micro),
]
sys.exit(0 if all(checks) else f"changed: {checks}")
PY
