"""From words to tokens, for segmentation, captions and guidance alike."""
