"""What `unetcu train` is made of.

settings: every flag. prepare: data, network and length before the first step. samples: targets,
weight maps and random tiles. trainer: one step at a time, no files. validation: scores on whole
images. loop: epochs and files. rundir: the run's folder. interrupts: Ctrl-C as a wish to stop.
"""
