#!/bin/sh
# Ask a running service (goca serve) for the overlay of an image: sh examples/client.sh photo.jpg "cat,grass,sky" > overlay.png
curl --fail-with-body -sS -F image=@"$1" -F classes="$2" -F format=overlay "${3:-http://127.0.0.1:8642}/v1/segment"
