"""Segment one generated scene with the embedded model and print what is where.

Run: python examples/quickstart.py
"""

from goca import Segmenter
from goca.datasets.scenes import make_scene

scene = make_scene(seed=2026, index=0)
segmenter = Segmenter.from_pretrained("scenes-dit")
result = segmenter(scene.image, list(scene.classes))

for name, share in result.areas.items():
    print(f"{name}: {share:.0%} of the image")
print("files:", *result.save("quickstart-out", overwrite=True).values(), sep="\n  ")
