"""Ask a running service (goca serve) what is where: python examples/client.py photo.jpg "cat,grass,sky" """

import base64
import json
import sys
import urllib.request

photo, classes, address = (*sys.argv[1:], "http://127.0.0.1:8642")[:3]
with open(photo, "rb") as file:
    body = json.dumps({"image": base64.b64encode(file.read()).decode(), "classes": classes}).encode()
request = urllib.request.Request(f"{address}/v1/segment", body, {"Content-Type": "application/json"})
for found in json.load(urllib.request.urlopen(request))["classes"]:
    print(f"{found['name']}: {found['area']:.0%} of the image")
