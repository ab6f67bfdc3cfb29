// ---- the photograph -----------------------------------------------------------------------------

const MARK = 9; // radius of a fixation's number, in screen pixels

/** A photograph: its size, the pixels that are held of it, and where the network looked in it. */
class Photo {
  /** Of an image that a canvas can draw; views: as in the page's data. */
  constructor(image, { width, height, name = "", views = [] }) {
    Object.assign(this, { width, height, name, views });
    const { area, side } = data.limits;
    const scale = Math.min(1, Math.sqrt(area / (width * height)), side / Math.max(width, height));
    // Of an image that comes smaller, as the page's own may, all pixels are held as they are.
    const held = (size, own) => Math.max(1, Math.min(own, Math.round(size * scale)));
    this.canvas = new OffscreenCanvas(held(width, image.width), held(height, image.height));
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#fff"; // beneath what is transparent
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, this.canvas.width, this.canvas.height);
    const { width: across, height: down } = this.canvas;
    const { data: pixels } = context.getImageData(0, 0, across, down);
    this.held = { width: across, height: down, pixels };
  }

  /** The gaze at the centre, with the view that the network has of such a photograph. */
  get center() {
    const { width, height } = this,
      { by } = data.view;
    const unit = { pixels: 1, side: Math.min(width, height), area: Math.sqrt(width * height) }[by];
    const view = { height: data.view.height * unit, width: data.view.width * unit };
    return { row: 0.5, column: 0.5, ...view };
  }
}

/** The photograph with the gaze in it. Coordinates are its pixels. */
class Picture {
  constructor() {
    this.canvas = byId("photograph");
    this.canvas.addEventListener("keydown", onGazeKey);
    this.canvas.addEventListener("pointerdown", (event) => this.grasp(event));
  }

  get followsGaze() {
    return true;
  }

  /** Lay out what is in the picture: the whole photograph, and room for the view at its centre. */
  layout() {
    if (!state.photo) return;
    const { width, height } = state.photo,
      views = [state.gaze, ...state.photo.views];
    const margin = 0.02 * Math.max(width, height);
    this.width = Math.max(width, ...views.map((view) => view.width)) + 2 * margin;
    this.height = Math.max(height, ...views.map((view) => view.height)) + 2 * margin;
    this.left = (width - this.width) / 2;
    this.top = (height - this.height) / 2;
    const narrow = window.matchMedia("(max-width: 47rem)").matches;
    const share = narrow ? 0.33 : scores ? 0.34 : 0.42; // scores are to be in view, too
    const room = this.canvas.parentElement.clientWidth,
      most = share * window.innerHeight;
    const fitting = Math.min(room / this.width, most / this.height);
    // A strip may be longer than there is room for, and then scrolls.
    const legible = Math.min(
      220 / Math.min(this.width, this.height),
      6000 / Math.max(this.width, this.height),
    );
    const shown = Math.max(fitting, legible) * this.width;
    this.canvas.parentElement.style.maxHeight = `${Math.ceil(most) + 20}px`;
    this.canvas.style.width = `${shown}px`;
    prepare(this.canvas, this.height / this.width, shown);
    this.scale = this.canvas.width / this.width;
    this.dim = this.layer(0.45, "saturation");
    this.bright = this.layer(1, null);
    this.mask = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    this.lights = null;
    this.raster = null;
  }

  /** The gaze's degrees to the canvas's pixels. */
  get view() {
    const { gaze } = state;
    const x = (gaze.column * state.photo.width - this.left) * this.scale,
      y = (gaze.row * state.photo.height - this.top) * this.scale;
    const [across, down] = [gaze.width / data.fov, gaze.height / data.fov];
    return [across * this.scale, 0, 0, -down * this.scale, x, y];
  }

  /** The photograph at the canvas's size, darkened to a share of its light, grey if asked for. */
  layer(light, blend) {
    const canvas = new OffscreenCanvas(this.canvas.width, this.canvas.height),
      context = canvas.getContext("2d");
    const { width, height } = state.photo;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.setTransform(
      this.scale,
      0,
      0,
      this.scale,
      -this.left * this.scale,
      -this.top * this.scale,
    );
    context.imageSmoothingQuality = "high";
    context.drawImage(state.photo.canvas, 0, 0, width, height);
    if (blend) {
      context.globalCompositeOperation = blend;
      context.fillStyle = "#808080";
      context.fillRect(0, 0, width, height);
    }
    context.globalCompositeOperation = "source-over";
    context.fillStyle = `rgb(0 0 0 / ${1 - light})`;
    context.fillRect(0, 0, width, height);
    return canvas;
  }

  draw() {
    if (!state.photo) return;
    const context = this.canvas.getContext("2d"),
      weight = state.field?.[0];
    const ratio = this.canvas.width / this.canvas.clientWidth,
      [a, , , d] = this.view,
      pixel = ratio / Math.min(a, -d);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(weight ? this.dim : this.bright, 0, 0);
    if (weight) {
      context.drawImage(this.light(weight), 0, 0);
      context.setTransform(...this.view);
      context.save();
      context.clip(edges.visual);
      stroke(context, border(0, "visual"), pixel, ["#fff", 1.5]);
      context.restore();
    }
    context.setTransform(...this.view);
    stroke(context, fieldOfView, pixel, ["#000", 3.5], [GAZE_COLOR, 2]);
    cross(context, 0, 0, 9 * pixel, GAZE_COLOR, pixel);
    if (weight && state.level === 0) {
      const [x, y] = levels[0].places.visual.subarray(2 * state.unit, 2 * state.unit + 2);
      stroke(context, circle(7 * pixel, x, y), pixel, ["#fff", 5], [UNIT_COLOR, 3]);
    }
    this.drawMarks(context, ratio);
  }

  /** The numbers of the fixations, where they are. */
  drawMarks(context, ratio) {
    state.photo.views.forEach((view, i) => {
      if (i === state.fixation) return; // the cross is there
      context.setTransform(ratio, 0, 0, ratio, ...this.place(view).map((at) => at * ratio));
      context.fillStyle = "#000a";
      context.fill(circle(MARK));
      stroke(context, circle(MARK), 1, ["#fff", 1.25]);
      label(context, `${i + 1}`, 0, 0.5);
    });
  }

  /** Where a gaze is, in screen pixels from the canvas's corner. */
  place({ row, column }) {
    const scale = (this.scale * this.canvas.clientWidth) / this.canvas.width;
    return [
      (column * state.photo.width - this.left) * scale,
      (row * state.photo.height - this.top) * scale,
    ];
  }

  /** The photograph's colours where the unit sees them, the more paths the more opaque. */
  light(weight) {
    if (this.lights?.weight !== weight || this.lights.coloring !== state.coloring)
      this.lights = { weight, coloring: state.coloring, canvas: this.lit(weight) };
    const context = this.mask.getContext("2d"),
      { canvas } = this.lights,
      [a, , , d, x, y] = this.view;
    const [side] = boxes.visual.reach,
      [across, down] = [a * side, -d * side];
    context.globalCompositeOperation = "copy";
    context.drawImage(canvas, x - across, y - down, 2 * across, 2 * down);
    context.globalCompositeOperation = "destination-in"; // within the field
    context.setTransform(...this.view);
    context.fill(edges.visual);
    context.resetTransform();
    context.globalCompositeOperation = "source-in";
    context.drawImage(this.bright, 0, 0);
    return this.mask;
  }

  /** The field of view, opaque where the unit sees. */
  lit(weight) {
    const [a] = this.view,
      across = 2 * boxes.visual.reach[0],
      side = Math.min(1200, Math.ceil(a * across));
    if (this.raster?.canvas.width !== side)
      this.raster = new Raster(side, side, across / side, frameOf(0, "visual"), [0, 0]);
    const most = weight.reduce((high, paths) => Math.max(high, paths), 0);
    // The root lets the outskirts be seen as well.
    const share = (paths) => (state.coloring === "paths" ? Math.sqrt(paths / most) : paths && 1);
    return this.raster.paint(
      Uint32Array.from(weight, (paths) => Math.round(255 * share(paths)) << 24),
    );
  }

  /** Where an event is, in screen pixels from the canvas's corner, even if beyond. */
  placeOf({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [clientX - left, clientY - top];
  }

  /** Take the gaze to where a pointer goes down, or to the fixation that is there, and along. */
  grasp(event) {
    if (!state.photo || event.button !== 0) return;
    const near = (view) =>
      Math.hypot(...difference(this.place(view), this.placeOf(event))) < MARK + 3;
    const fixation = state.photo.views.findIndex(near);
    let dragged = fixation < 0;
    const follow = (moved) => {
      if (moved.pointerId !== event.pointerId) return;
      dragged ||= Math.hypot(...difference(this.placeOf(moved), this.placeOf(event))) > 3;
      if (!dragged) return;
      const [x, y] = this.placeOf(moved),
        scale = this.canvas.clientWidth / this.width,
        { width, height } = state.photo;
      moveGaze((y / scale + this.top) / height, (x / scale + this.left) / width);
    };
    const letGo = ({ pointerId }) => {
      if (pointerId !== event.pointerId) return;
      window.removeEventListener("pointermove", follow);
      window.removeEventListener("pointerup", letGo);
      window.removeEventListener("pointercancel", letGo);
      byId("announcement").textContent = describeGaze();
    };
    if (dragged) follow(event);
    else chooseFixation(fixation);
    this.canvas.setPointerCapture(event.pointerId);
    window.addEventListener("pointermove", follow);
    window.addEventListener("pointerup", letGo);
    window.addEventListener("pointercancel", letGo);
  }

  /** Scroll a long strip to where the gaze is. */
  reveal() {
    const frame = this.canvas.parentElement,
      [x, y] = this.place(state.gaze);
    frame.scrollTo(x - frame.clientWidth / 2, y - frame.clientHeight / 2);
  }
}

function difference([x, y], [left, top]) {
  return [x - left, y - top];
}
