// ---- pictures of a level's units ----------------------------------------------------------------

const MOST_LINES = 300; // units up to which cells are parted by lines

/** A picture of the units of a level, each filling its cell. */
class Units {
  constructor(canvas, index) {
    this.canvas = canvas;
    this.index = index;
  }

  get space() {
    return state.space;
  }

  get zoom() {
    return this.space === "visual" ? state.zoom : 1;
  }

  /** Whether it changes with the gaze. */
  get followsGaze() {
    return !state.field || state.coloring === "picture";
  }

  layout() {
    const { canvas } = this,
      { middle, reach } = boxes[this.space],
      [across, up] = reach;
    prepare(canvas, up / across, canvas.parentElement.clientWidth);
    this.scale = (canvas.width / 2 / (1.03 * across)) * this.zoom; // pixels per degree, or unit of the cortex
    const frame = frameOf(this.index, this.space);
    this.raster = new Raster(canvas.width, canvas.height, 1 / this.scale, frame, middle);
    this.lines = null;
  }

  draw() {
    const { canvas, index } = this;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.save();
    this.toPlaces(context);
    context.clip(edges[this.space]);
    context.resetTransform();
    context.drawImage(this.raster.paint(this.colors(state.field?.[index])), 0, 0);
    context.restore();
    context.drawImage(this.drawnLines(), 0, 0);
  }

  /** Let a context draw in degrees, or in the unit of the cortex. */
  toPlaces(context) {
    const { canvas, scale } = this,
      [x, y] = boxes[this.space].middle;
    const left = canvas.width / 2 - x * scale,
      top = canvas.height / 2 + y * scale;
    context.setTransform(scale, 0, 0, -scale, left, top);
  }

  /** All that is drawn over the cells, which stays as it is while the gaze moves. */
  drawnLines() {
    const { canvas, index, lines } = this,
      { field } = state;
    if (lines?.field === field && lines.ink === ink) return lines.canvas;
    const drawn = new OffscreenCanvas(canvas.width, canvas.height),
      context = drawn.getContext("2d"),
      pixel = canvas.width / canvas.clientWidth / this.scale; // of the screen, in degrees, or on the cortex
    this.toPlaces(context);
    context.save();
    context.clip(edges[this.space]);
    this.drawCells(context, pixel);
    this.drawRings(context, pixel);
    if (field) this.drawBorder(context, pixel);
    context.restore();
    stroke(context, edges[this.space], pixel, ["#767676", 1]);
    if (field && index === state.level) this.drawUnit(context, pixel);
    if (this.space === "cortical" && data.cortex.unit) this.drawScale(context, pixel);
    this.lines = { field, ink, canvas: drawn };
    return drawn;
  }

  /** The colour of every unit, [N]. */
  colors(weight) {
    const { words } = ink,
      { count } = levels[this.index],
      samples = colorsOf(this.index);
    const pictured = samples && (!weight || state.coloring === "picture");
    const colors = new Uint32Array(count).fill(words.unreached);
    if (!weight && !samples) return colors;
    const ramp = this.index > state.level ? words.projection : words.field;
    const most = weight?.reduce((a, b) => Math.max(a, b), 0);
    for (let i = 0; i < count; i++) {
      if (weight && !weight[i]) continue;
      const share = state.coloring === "paths" && weight ? weight[i] / most : 0.75;
      colors[i] = pictured
        ? wordAt(samples, i)
        : ramp[Math.min(ramp.length - 1, Math.floor(share * ramp.length))];
    }
    return colors;
  }

  drawCells(context, pixel) {
    if (levels[this.index].drawn > MOST_LINES) return;
    const lines = new Path2D();
    frameOf(this.index, this.space).voronoi.render(lines);
    stroke(context, lines, pixel, [ink.lines, 1]);
  }

  drawBorder(context, pixel) {
    stroke(context, border(this.index, this.space), pixel, [ink.border, 1.25]);
  }

  drawRings(context, pixel) {
    let labelled = 0;
    for (const { degrees, paths, at } of rings) {
      if (this.space === "visual" && degrees * this.zoom <= boxes.visual.reach[0] / 7) continue; // too small
      for (const path of paths[this.space])
        stroke(context, path, pixel, ["#0006", 2], ["#fffc", 1]);
      const [x, y] = at[this.space];
      const room = this.space === "visual" ? 18 : 26; // pixels that a label takes
      if (Math.hypot(x, y) < labelled + room * pixel) continue;
      labelled = Math.hypot(x, y);
      context.save();
      context.translate(x, y);
      context.scale(pixel, -pixel);
      label(context, `${degrees}°`, 0, 0);
      context.restore();
    }
    const gazes = this.space === "visual" ? [[0, 0]] : data.cortex.gaze;
    for (const [x, y] of gazes) cross(context, x, y, 5 * pixel, "#fff", pixel);
  }

  /** A bar of round length, in the unit of the cortex. */
  drawScale(context, pixel) {
    const [across, up] = boxes.cortical.reach,
      length = 10 ** Math.floor(Math.log10(across / 2));
    const path = new Path2D(),
      y = -1.02 * up + 3 * pixel;
    path.moveTo(-length / 2, y);
    path.lineTo(length / 2, y);
    stroke(context, path, pixel, [ink.border, 2]);
    context.save();
    context.translate(0, y);
    context.scale(pixel, -pixel);
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillStyle = ink.border;
    context.fillText(`${length} ${data.cortex.unit}`, 0, -5);
    context.restore();
  }

  drawUnit(context, pixel) {
    const cell = new Path2D(),
      places = levels[this.index].places[this.space],
      frame = frameOf(this.index, this.space);
    frame.voronoi.renderCell(cellOf(frame, state.unit), cell);
    const [x, y] = places.subarray(2 * state.unit, 2 * state.unit + 2);
    stroke(context, circle(7 * pixel, x, y), pixel, ["#fff", 5], [UNIT_COLOR, 3]);
    context.save();
    context.clip(edges[this.space]);
    stroke(context, cell, pixel, [UNIT_COLOR, 2]);
    context.restore();
  }
}

/** The colour of sample i as a number. */
function wordAt(samples, i) {
  return (255 << 24) | (samples[3 * i + 2] << 16) | (samples[3 * i + 1] << 8) | samples[3 * i];
}

/** The samples at this gaze, and on them the border of the field that is lit. */
class Samples extends Units {
  #space;

  constructor(canvas, space) {
    super(canvas, 0);
    this.#space = space;
  }

  get space() {
    return this.#space;
  }

  get followsGaze() {
    return true;
  }

  colors() {
    const samples = colorsOf(0),
      colors = new Uint32Array(levels[0].count);
    for (let i = 0; i < colors.length; i++) colors[i] = wordAt(samples, i);
    return colors;
  }

  drawCells() {}

  drawBorder(context, pixel) {
    stroke(context, border(0, this.space), pixel, ["#000a", 3.5], ["#fff", 1.5]);
  }

  layout() {
    if (state.photo) super.layout();
  }

  draw() {
    if (state.photo) super.draw();
  }
}

/** One of the network's levels, in which a unit can be chosen. */
class Level extends Units {
  constructor(index) {
    super(document.createElement("canvas"), index);
    const { canvas } = this,
      { name, drawn } = levels[index],
      graph = graphs[index - 1];
    const incoming = graph ? [`k = ${graph.k}`] : [];
    for (const { below, k } of shortcutsInto(index))
      incoming.push(`shortcut from ${levels[below].name}, k = ${k}`);
    const what = [counted(drawn, index ? "unit" : "sample"), ...incoming].join(", ");
    const figure = document.createElement("figure"),
      caption = document.createElement("figcaption");
    const [title, size] = [document.createElement("b"), document.createElement("span")];
    title.textContent = `${index}. ${name}`;
    size.textContent = what;
    this.note = document.createElement("span");
    caption.append(title, size, this.note);
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "map of units");
    canvas.setAttribute("aria-label", `${name}: ${what}`);
    if (graph)
      title.title = `${graph.kind} of the ${graph.k} nearest units of ${levels[index - 1].name}`;
    figure.append(caption, canvas);
    byId("levels").append(figure);
    canvas.addEventListener("pointermove", (event) => {
      const unit = this.unitAt(event);
      if (!state.held && event.pointerType === "mouse" && unit >= 0) select(index, unit, false);
    });
    canvas.addEventListener("click", (event) => {
      const unit = this.unitAt(event);
      if (unit >= 0) press(index, unit);
    });
    canvas.addEventListener("focus", () => {
      if (state.level !== index && canvas.matches(":focus-visible")) goTo(index);
    });
    canvas.addEventListener("keydown", onLevelKey);
  }

  unitAt({ offsetX, offsetY }) {
    const { canvas, scale, space } = this,
      ratio = canvas.width / canvas.clientWidth,
      [middleX, middleY] = boxes[space].middle;
    const x = middleX + (offsetX * ratio - canvas.width / 2) / scale,
      y = middleY + (canvas.height / 2 - offsetY * ratio) / scale;
    const context = canvas.getContext("2d");
    if (!context.isPointInPath(edges[space], x, y)) return -1;
    return nearestUnit(this.index, space, x, y);
  }

  draw() {
    super.draw();
    const { index } = this;
    if (!state.field) this.note.textContent = " ";
    else if (index === state.level) this.note.textContent = `the unit: ${state.unit}`;
    else {
      const count = reached(index),
        way = index < state.level ? `reach${count === 1 ? "es" : ""}` : "reached by";
      this.note.textContent = `${count.toLocaleString("en")} ${way} the unit`;
    }
  }
}
