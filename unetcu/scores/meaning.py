"""Names of the scores, for readers, and what each says."""

# What the table says of each score; per class "iou_0", "dice_0" and so on come beside these.
MEANING = {
    "pixel_error": ("pixel error", "share of wrong pixels"),
    "iou": ("IoU", "intersection over union, mean over classes"),
    "dice": ("Dice", "mean over classes"),
    "v_rand": ("V_Rand", "1 is perfect; borders thinned, mean over pages"),
    "v_info": ("V_Info", "1 is perfect; borders thinned, mean over pages"),
    "rand_error": ("Rand error", "ISBI 2012: 0 is perfect; not thinned"),
    "isbi_pixel_error": ("ISBI pixel error", "ISBI 2012: 1 - F-score of the foreground"),
    "seg": ("SEG", "Cell Tracking Challenge: mean Jaccard of the true objects"),
    "ap50": ("AP50", "TP / (TP + FP + FN) at IoU > 0.5, mean over pages"),
    "matched": ("matched", "share of true objects matched one to one at IoU > 0.5"),
}
