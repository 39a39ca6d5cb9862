// ---- the graph's canvas: what is marked, what is in sight, how large it is shown

const canvas = document.getElementById("canvas");
const drawn = new Map(); // node of the tree or "v12" -> its drawing
const READABLE = 0.8; // scale below which labels are too small: the canvas scrolls instead
const SMALLEST = 0.02;
let size = { width: 1, height: 1 };
let shownScale = 1;

function markGraph() {
  const id = state.value !== null ? `v${state.value}` : state.chosen ? visible(state.chosen).id : "";
  for (const [key, made] of drawn) made.classList.toggle("chosen", key === id || key === `c-${id}`);
  for (const path of canvas.querySelectorAll(".edge")) {
    path.classList.toggle("near", path.dataset.from === id || path.dataset.to === id);
  }
  const made = drawn.get(id) ?? drawn.get(`c-${id}`);
  if (made) reveal(made);
}

// Scrolls the canvas, and nothing else, until the drawing is in sight.
function reveal(made) {
  const [box, view] = [made.getBoundingClientRect(), canvas.getBoundingClientRect()];
  const margin = 40;
  if (!view.width) return;
  if (box.top < view.top + margin || box.bottom > view.bottom - margin) {
    canvas.scrollTop += box.top - view.top - Math.min(view.height / 3, Math.max(margin, (view.height - box.height) / 2));
  }
  if (box.left < view.left + margin || box.right > view.right - margin) {
    canvas.scrollLeft += (box.left + box.right - view.left - view.right) / 2;
  }
}

function fitting(least) {
  const [width, height] = [canvas.clientWidth - 8, canvas.clientHeight - 8];
  if (width <= 0 || height <= 0) return 1;
  return Math.max(least, Math.min(1.15, width / size.width, height / size.height));
}

function zoomTo(scale) {
  const bounded = Math.min(3, Math.max(SMALLEST, scale));
  const svg = canvas.firstChild;
  svg.setAttribute("width", size.width * bounded);
  svg.setAttribute("height", size.height * bounded);
  shownScale = bounded;
}

function zoomBy(factor) {
  const before = shownScale;
  const [x, y] = [canvas.scrollLeft + canvas.clientWidth / 2, canvas.scrollTop + canvas.clientHeight / 2];
  zoomTo(shownScale * factor);
  state.scale = shownScale;
  canvas.scrollLeft = (x * shownScale) / before - canvas.clientWidth / 2;
  canvas.scrollTop = (y * shownScale) / before - canvas.clientHeight / 2;
}

function fit() {
  state.scale = null;
  zoomTo(fitting(SMALLEST));
}

canvas.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  zoomBy(event.deltaY < 0 ? 1.12 : 1 / 1.12);
}, { passive: false });
