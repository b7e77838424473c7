
const width = 1200, boxes = [...document.querySelectorAll("g.box")];
const names = boxes.map((box) => box.querySelector("title").textContent.replace(/: \d+ samples, .*$/, ""));
function place(box, name, x, w) {
  box.style.display = w > 0.2 ? "" : "none";
  const rect = box.querySelector("rect"), text = box.querySelector("text");
  rect.setAttribute("x", x); rect.setAttribute("width", w); text.setAttribute("x", x + 2);
  const room = Math.floor((w - 4) / 6.7);
  text.textContent = room < 3 ? "" : name.length <= room ? name : "…" + name.slice(name.length - room + 1);
}
function zoom(to) {
  const x0 = to ? +to.dataset.x : 0, w0 = to ? +to.dataset.w : width, d0 = to ? +to.dataset.d : 0;
  boxes.forEach((box, n) => {
    const x = +box.dataset.x, w = +box.dataset.w, below = +box.dataset.d < d0;
    const from = Math.max(0, (x - x0) / w0 * width), upto = Math.min(width, (x + w - x0) / w0 * width);
    box.style.opacity = to && below ? 0.5 : 1;
    place(box, names[n], from, upto - from);
  });
}
boxes.forEach((box) => box.addEventListener("click", () => zoom(box)));
document.getElementById("ground").addEventListener("click", () => zoom(null));
