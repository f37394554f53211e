// The picture of a request: chosen, dropped or taken from an answer, and the mask that is painted over it.
const $ = (id) => document.getElementById(id);
const PAINT = "#d6336c"; // of the mask, as it is shown
const SIZE = 512; // pixels a side of what is shown and painted on

let url = ""; // data URL of the picture as it was given
let grid = [1, 1]; // rows and columns of tokens: a token is drawn anew or kept as a whole
let marked = new Set(); // cells of the grid that the brush has touched
let last = null; // where the brush was

function shown(canvas) {
  const context = canvas.getContext("2d");
  canvas.width = canvas.height = SIZE;
  return context;
}

function clearMask() {
  shown($("mask"));
  marked = new Set();
}

function fillCells(context, colour) {
  const [height, width] = grid.map((count) => SIZE / count);
  context.fillStyle = colour;
  for (const cell of marked) context.fillRect((cell % grid[1]) * width, Math.floor(cell / grid[1]) * height, width, height);
}

async function load(source) {
  const image = new Image();
  image.src = source;
  try {
    await image.decode();
  } catch {
    $("invitation").textContent = "This cannot be opened as a picture; choose a PNG, JPEG or WebP file";
    return;
  }
  url = source;
  const side = Math.min(image.naturalWidth, image.naturalHeight);
  const context = shown($("picture"));
  context.imageSmoothingEnabled = side > SIZE;
  // The central square is what the model sees.
  context.drawImage(image, (image.naturalWidth - side) / 2, (image.naturalHeight - side) / 2, side, side, 0, 0, SIZE, SIZE);
  $("picture").hidden = false;
  $("invitation").hidden = true;
  clearMask();
}

function loadFile(file) {
  const reader = new FileReader();
  reader.onload = () => load(reader.result);
  reader.readAsDataURL(file);
}

// Marks the cells that the inner half of the brush touches.
function mark([x, y], radius) {
  const [height, width] = grid.map((count) => SIZE / count);
  for (let row = 0; row < grid[0]; row++)
    for (let column = 0; column < grid[1]; column++) {
      const dx = Math.max(column * width - x, 0, x - (column + 1) * width);
      const dy = Math.max(row * height - y, 0, y - (row + 1) * height);
      if (Math.hypot(dx, dy) < radius / 2) marked.add(row * grid[1] + column);
    }
}

function paint(event) {
  const box = $("mask").getBoundingClientRect();
  const at = [((event.clientX - box.left) / box.width) * SIZE, ((event.clientY - box.top) / box.height) * SIZE];
  const radius = (Number($("brush").value) / 200) * SIZE;
  const from = last ?? at;
  const steps = Math.ceil(Math.hypot(at[0] - from[0], at[1] - from[1]) / 4) + 1;
  for (let step = 1; step <= steps; step++) mark([0, 1].map((i) => from[i] + ((at[i] - from[i]) * step) / steps), radius);
  fillCells($("mask").getContext("2d"), PAINT);
  last = at;
}

export const picture = {
  load,
  source: () => url,
  painted: () => marked.size > 0,
  painting: (on) => { $("mask").hidden = !on; },
  // White where it is to be drawn anew, black elsewhere.
  maskSource() {
    const canvas = document.createElement("canvas");
    const context = shown(canvas);
    context.fillRect(0, 0, SIZE, SIZE);
    fillCells(context, "#fff");
    return canvas.toDataURL("image/png");
  },
  ready(tokens) {
    grid = tokens;
    clearMask();
    const choose = () => $("file").click();
    $("drop").addEventListener("click", () => { if (!url || $("mask").hidden) choose(); });
    $("drop").addEventListener("keydown", (event) => { if (["Enter", " "].includes(event.key)) { event.preventDefault(); choose(); } });
    $("other").addEventListener("click", choose);
    $("clear").addEventListener("click", clearMask);
    $("file").addEventListener("change", () => { if ($("file").files[0]) loadFile($("file").files[0]); $("file").value = ""; });
    for (const kind of ["dragenter", "dragover"]) $("drop").addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
    $("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
    $("drop").addEventListener("drop", (event) => {
      event.preventDefault();
      $("drop").classList.remove("over");
      if (event.dataTransfer.files[0]) loadFile(event.dataTransfer.files[0]);
    });
    $("mask").addEventListener("pointerdown", (event) => { if (!url) return; $("mask").setPointerCapture(event.pointerId); last = null; paint(event); });
    $("mask").addEventListener("pointermove", (event) => { if (event.buttons && url) paint(event); });
    $("mask").addEventListener("pointerup", () => { last = null; });
  },
};
