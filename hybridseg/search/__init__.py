"""Search for the settings of a theme that score best on labelled scenes; what tune and finetune share."""
