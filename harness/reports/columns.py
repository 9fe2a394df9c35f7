"""What each column of each table means: the source of docs/columns.md, which `python -m harness.reports.columns` prints."""

import re

TABLES = {
    "cells.csv": "One row for each model and condition.",
    "samples.parquet": "One row for each example and row of cells.csv that has numbers.",
    "sweep.csv": "One row for each model, attack and budget, and one for the worst case over attacks at each budget.",
    "leaderboard.csv": "One row a model, contest by contest, best first. `harness leaderboard` writes the same of several runs.",
    "per_class.csv": "One row for each class of each row of cells.csv that has numbers.",
    "before_after.csv": "One row for each condition that changes images: the scores before, after, and the difference.",
    "best_known.csv": "One row for each model, norm and budget: robust accuracy once images from elsewhere count, see "
    "docs/verification.md.",
    "best_known_images.csv": "One row for each image from elsewhere that the model misclassifies.",
    "stages.csv": "One row for each stage of an ensemble, at each budget.",
    "transfer.csv": "One row for each pair of models: the model of the row on the adversarial images made against `source`.",
    "history.csv": "One row for each trained model and epoch.",
    "training.csv": "One row for each trained model: the epoch whose weights are kept, and warnings.",
    "poisons.csv": "One row for each model trained on poisoned data.",
    "detectors.csv": "One row for each detector and poisoned model.",
    "detectors_roc.csv": "The points of the detectors' ROC curves.",
    "crossruntime.csv": "One row for each model file, condition and runtime.",
    "requirements.csv": "One row for each bound of a requirement and model.",
    "expectations.csv": "One row for each expectation of the suite.",
    "confusion/<cell>.csv": "Counts: one row a true class, and beside `true_class` one column a predicted class, by its name.",
    "roc/<cell>.csv": "The points of the one-vs-rest ROC curves, class by class.",
    "examples/sheet.csv": "One row for each thumbnail in `examples/sheet.jpg`, which has 20 squares of one size in a row.",
}
"""File -> what a row is."""

COLUMNS = {
    # the model: the same in every table
    "dataset": "Name of the data set.",
    "model": "The model's label in the suite.",
    "arch": "Architecture.",
    "recipe": "Training recipe; `given` for a finished model.",
    "poison": "Label of the training set's poison; empty where nobody poisoned it.",
    "poison_rate": "Share of the training set that is poisoned, as asked for.",
    "seed": "Seed of the model's training and of its poison.",
    # the condition
    "digest": "Identifies the row of cells.csv, in all tables.",
    "condition": "What was done to the images: clean, attack, corruption, folder, trigger, target.",
    "attack": "Label of the attack, or of the folder of images; `none` without one; `worst_case` for all attacks together.",
    "attacks": "The attacks that a worst case is taken over, joined by +.",
    "targeted": "Whether the attack succeeds only by reaching `target_class`; empty where the row is no attack.",
    "target_class": "The class that a targeted attack aims at, else the model's poison.",
    "norm": "Norm of the budget: Linf, L2 or L1.",
    "eps": "Budget in pixel units of [0,1].",
    "alpha": "Step size of the attack at this budget.",
    "steps": "Steps of the attack.",
    "restarts": "Restarts of the attack.",
    "protocol": "How the budgets of a sweep relate: nested, independent or bisect; `mixed` where a worst case has several.",
    "corruption": "Name of the corruption.",
    "corruption_group": "What the corruption happens to: noise, blur, weather, digital, geometry or encoding.",
    "severity": "Severity of the corruption, 1 to 5.",
    # numbers
    "n_examples": "Number of examples, wrong ones included.",
    "accuracy": "Share of the condition's images that are classified correctly.",
    "clean_accuracy": "Share of the same examples that are classified correctly as they are.",
    "robust_accuracy": "Share of examples that are correct when clean and not adversarial under the attack; empty without one.",
    "robust_accuracy_floor": "Robust accuracy that AutoAttack standard leaves at least, with 95 % confidence, by the audit.",
    "audit_n": "Examples that the audit attacked, too, without success.",
    "audit_broken": "Examples on which AutoAttack standard succeeded before the attack escalated.",
    "attack_success_rate": "Share of successes where one counts: on examples that are correct when clean, of no target class.",
    "eligible": "The number of these examples; in samples.parquet whether an example is one.",
    "precision_macro": "Precision, each class counting alike.",
    "recall_macro": "Recall, each class counting alike.",
    "f1_macro": "F1, each class counting alike.",
    "roc_auc_macro": "Area under the one-vs-rest ROC curve, each class counting alike.",
    "conclusive": "Whether the attack is strong enough for a headline number; empty where the row is no attack.",
    "max_violation": "Largest distance of an image outside the ball or [0,1].",
    "forwards": "Forward passes x examples.",
    "backwards": "Backward passes x examples.",
    "seconds": "Wall time in seconds.",
    "peak_memory_mb": "Largest memory of the process, or of the device, since it started, in MiB.",
    "verdict": "The attack check: PASS, SUSPECT or INVALID.",
    "verdict_reasons": "Why it is not PASS, and remarks.",
    "status": "done, cached, skipped, failed or not_run.",
    "reason": "Why there is no number, or why a requirement is not met.",
    # samples.parquet
    "example_id": "Readable name of the example.",
    "content_hash": "Hash of the example's pixels: runs are joined by it.",
    "label": "Index of the true class, in the order of class_names in provenance.json.",
    "clean_prediction": "Index of the class predicted on the image as it is.",
    "prediction": "Index of the class predicted on the condition's image.",
    "clean_correct": "Whether the first one is right.",
    "correct": "Whether the second one is right.",
    "fooled": "Whether the attack or the poison succeeded on the example.",
    "smallest_eps": "Smallest budget with a success; inf where there is none, empty where the row is no attack.",
    "distance": "Size of the perturbation in the norm of the budget.",
    # leaderboard.csv
    "rank": "Place among the models of the contest; equal numbers share it. Poisoned models and such without number have none.",
    "rank_range": "Ranks that exact McNemar tests of all pairs on the same examples, with Holm's correction, do not rule out: "
    "`1-3`. Empty where the examples are not stored.",
    "contest": "Models of one contest are ranked against each other: same examples, norm, budget, attacks with their settings, "
    "protocol and schema.",
    "badge": "POISONED for a model that was trained on poisoned data.",
    "suite": "The suite of the run, in a leaderboard over several.",
    "strongest_attack": "The attack that by itself leaves least at the reference budget.",
    "mean_robust_accuracy": "Mean of the worst case over the budgets of the norm.",
    "mean_corruption_accuracy": "Mean accuracy over the common corruptions, each counting once.",
    "backdoor_success_rate": "Share of triggered images that are classified as the target class.",
    "forwards_per_example": "Forward passes of all attacks, for each example.",
    "backwards_per_example": "Backward passes of all attacks, for each example.",
    "attack_seconds": "Wall time of all attacks in seconds.",
    "worst_class": "The class of lowest recall on clean images.",
    "worst_class_recall": "That recall.",
    "worst_class_n": "Examples of that class.",
    "attack_settings": "The attacks behind the reference number, each with its settings, protocol and budgets.",
    "data_digest": "Says which examples were judged: equal where runs judged the same ones.",
    "schema_version": "Version of the tables.",
    "attacks_not_met": "Attacks that other models met on the same examples at the same budget, and this one did not.",
    "rank_note": "What the rank does not say by itself: ties, missing numbers, missing examples.",
    "difference_to_next": "Robust accuracy less that of the next model of the contest. Its interval is of the paired difference.",
    "robust_accuracy[<norm> <eps>]": "The worst case at each budget of each norm.",
    # classes
    "class": "Name of the class.",
    "true_class": "Name of the true class.",
    "support": "Examples of the class.",
    "precision": "Share of the predictions of the class that are right; of a detector, of its suspects that are poisoned.",
    "recall": "Share of the class that is classified correctly; of a detector, of the poisoned examples that it suspects.",
    "f1": "Harmonic mean of both.",
    "roc_auc": "Area under the ROC curve of the class against the rest.",
    "false_positive_rate": "Horizontal position of the point.",
    "true_positive_rate": "Vertical position of the point.",
    "threshold": "Score from which on an example counts as positive.",
    # best_known.csv
    "best_known_robust_accuracy": "Robust accuracy with the examples counted out, too, that an image from elsewhere within the "
    "budget makes adversarial.",
    "from_elsewhere": "Examples that only such images make adversarial.",
    "model_digest": "Digest of the step that made the model.",
    "file": "The file that the image came in.",
    "file_sha256": "Its hash.",
    # stages.csv
    "stage": "Name of the stage.",
    "attacked": "Examples that were left for the stage.",
    "adversarial": "Those of them that it made adversarial.",
    # transfer.csv
    "source": "Label of the model that the images were made against.",
    "target": "Label of the model that is scored on them, as `model`.",
    # history.csv and training.csv
    "epoch": "Number of the epoch, from 1.",
    "epochs": "Epochs that were trained.",
    "best_epoch": "The epoch whose weights are kept.",
    "learning_rate": "Learning rate at the end of the epoch.",
    "train_loss": "Mean loss on the training images, attacked where the recipe attacks.",
    "train_accuracy": "Accuracy on the same images.",
    "train_clean_accuracy": "Accuracy on the training images as they are.",
    "validation_accuracy": "Accuracy on the validation split.",
    "validation_loss": "Loss on the validation split.",
    "validation_robust_accuracy": "Accuracy on the validation split under the probe.",
    "validation_robust_loss": "Loss on the validation split under the probe.",
    "predicted_classes": "Classes that are predicted for any validation image.",
    "attack_share": "Share of the time that the attack in the training took.",
    "catastrophic_overfitting": "Whether PGD succeeds where the training's attack fails; in training.csv the first such epoch.",
    "reduced_micro_batch": "Images of a part of a batch, where memory was too short for the recipe's.",
    "stopped_early": "Whether training ended before the recipe's last epoch.",
    "chosen_by": "The measure by which the epoch was chosen.",
    "robust_overfitting": "Robust accuracy of the best epoch less that of the last one.",
    "collapsed": "Whether one class is predicted for every validation image.",
    "warnings": "Warnings of the training, in words.",
    # poisons.csv and detectors.csv
    "training_examples": "Examples of the training set.",
    "poisoned": "Those of them that are poisoned.",
    "realised_rate": "Their share.",
    "largest_change": "Largest change of a pixel value, in [0,1].",
    "changed_pixels": "Largest number of changed pixels of an example.",
    "trigger_sha256": "Hash of the trigger.",
    "clean_accuracy_drop": "Clean accuracy of the clean control less that of the model.",
    "triggered_accuracy": "Accuracy on images with the trigger.",
    "targets": "Test images that the poison aims at.",
    "targets_hit": "Those of them on which it succeeded.",
    "manifest": "File with the poisoned examples, in the results folder.",
    "manifest_digest": "Digest of the step that poisoned.",
    "detector": "Label of the detector.",
    "images": "Which images a detector judged: training or run time; in crossruntime.csv the condition's name in the bundle.",
    "examples": "Images that the detector judged.",
    "suspected": "Those of them that it suspects.",
    "auc": "Area under the detector's ROC curve.",
    "false_alarm_rate": "Share of the clean images that it suspects.",
    "control_false_alarm_rate": "The same on the clean control, where nothing is poisoned.",
    # crossruntime.csv
    "runtime": "What computed: PyTorch, ONNX Runtime, the C++ evaluator.",
    "precision (crossruntime.csv)": "Number format of the file: float32, int8 or fp16.",
    "agreement": "Share of the examples with the class that PyTorch's stored logits have.",
    "flips": "Examples with another class.",
    "flips_outside_margin": "Those of them whose two largest stored logits lie further apart than the margin.",
    "max_difference": "Largest difference of a logit.",
    "p99_difference": "99th percentile of the differences.",
    "p99_relative": "The same of differences divided by the scale of their example: what the rule bounds.",
    "images_per_second": "Speed, the reading of the bundle included.",
    "agrees": "Whether the file gives the stored logits, by the rule; empty where it is not judged.",
    "reasons": "What breaks the rule.",
    "threads": "Threads inside an operator; empty where the runtime chose.",
    "version": "Version of the runtime's library.",
    "made_against": "The network that the attacked images were made against.",
    "transfer_accuracy": "Share of examples that are correct when clean and on attacked images of another network.",
    "clipped_share": "Share of the pixel values that an INT8 file clips, as they lie beyond the range it was calibrated for.",
    "transfer_success_rate": "Attack success rate on these.",
    # examples/sheet.csv
    "place": "Place of the thumbnail, from the left and the top, from 0.",
    # requirements.csv and expectations.csv
    "text": "The requirement or expectation in words.",
    "outcome": "MET, NOT MET or NOT SHOWN.",
    "found": "The number that was found; of an expectation in words.",
    "low": "Lower end of its interval.",
    "high": "Upper end of its interval.",
    "bound": "The value that the interval must lie on the right side of.",
    "needed_examples": "How many more examples would decide it at the same shares; empty where it is decided, or none would.",
    "kind": "at_least, at_most or above.",
    "confidence": "Confidence of the interval.",
    "holds": "Whether the expectation holds; empty where a number is missing.",
}
"""Column -> what it means, in units where it has any. Rates are in [0,1]."""

ENDS = {
    "_low": "Lower end of the 95 % interval of `{}`.",
    "_high": "Upper end of the 95 % interval of `{}`.",
    "_before": "`{}` before the change: of the clean images, or before the model was trained anew.",
    "_after": "`{}` after it.",
    "_difference": "The second less the first.",
}
"""Ending of a column -> what it means for the column without it."""


def meaning(table: str, column: str) -> str | None:
    """Returns what a column of a table means; None where nothing says it.

    >>> meaning("cells.csv", "accuracy_low")
    'Lower end of the 95 % interval of `accuracy`.'
    """
    budget = re.sub(r"\[.*\]", "[<norm> <eps>]", column)
    for name in (f"{column} ({table})", column, budget):
        if name in COLUMNS:
            return COLUMNS[name]
    for ending, text in ENDS.items():
        if (stem := column.removesuffix(ending)) != column and stem in COLUMNS:
            return text.format(stem)
    return None
