
for (const box of document.querySelectorAll("details.look")) {
  box.addEventListener("toggle", () => {
    const data = box.querySelector("script[type='application/json']");
    if (box.open && data) {
      GocaExplorer.mount(box.querySelector("div"), JSON.parse(data.textContent), 4);
      data.remove();
    }
  });
}
