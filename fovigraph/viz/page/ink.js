// ---- colours and marks --------------------------------------------------------------------------

const UNIT_COLOR = "#d5007f",
  GAZE_COLOR = "#ff9d2e";

/** The number 0xAABBGGRR of a colour #rrggbb. */
function word(color) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

// What stands out most is the farthest from the page's colour.
const INKS = {
  light: {
    unreached: data.unreached,
    border: "#000",
    lines: "#fff",
    projection: data.projection,
  },
  dark: {
    unreached: "#3b4144",
    border: "#fff",
    lines: "#161819",
    projection: [...data.projection].reverse(),
  },
};
for (const ink of Object.values(INKS)) {
  ink.field = data.field;
  ink.words = {
    field: ink.field.map(word),
    projection: ink.projection.map(word),
    unreached: word(ink.unreached),
  };
}
let ink = INKS.light;

/** Take the colours that the page has, which its style sheet chooses. */
function chooseInk() {
  const { colorScheme } = getComputedStyle(document.documentElement);
  ink = INKS[colorScheme === "dark" ? "dark" : "light"];
  byId("field-bar").style.background = `linear-gradient(to right, ${ink.field})`;
  byId("projection-bar").style.background = `linear-gradient(to right, ${ink.projection})`;
  byId("unreached-patch").style.background = ink.unreached;
}

/** Set the size of a canvas: as wide as given, of that aspect, sharp on fine screens. */
function prepare(canvas, aspect, width) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const height = Math.max(1, Math.round(width * aspect));
  canvas.style.height = `${height}px`;
  const across = Math.max(1, Math.round(width * ratio)), // while a page is resized, width can be 0
    down = Math.round(height * ratio);
  if (canvas.width !== across) canvas.width = across;
  if (canvas.height !== down) canvas.height = down;
}

/** Stroke a path several times, the broadest first: [colour, width in screen pixels]. */
function stroke(context, path, pixel, ...strokes) {
  for (const [color, width] of strokes) {
    context.strokeStyle = color;
    context.lineWidth = width * pixel;
    context.stroke(path);
  }
}

function label(context, text, x, y) {
  context.font = "10px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 2.5;
  context.strokeStyle = "#000c";
  context.fillStyle = "#fff";
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function cross(context, x, y, arm, color, pixel) {
  const path = new Path2D();
  path.moveTo(x - arm, y);
  path.lineTo(x + arm, y);
  path.moveTo(x, y - arm);
  path.lineTo(x, y + arm);
  stroke(context, path, pixel, ["#000", 3.5], [color, 1.75]);
}
