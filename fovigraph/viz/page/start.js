// ---- start --------------------------------------------------------------------------------------

let panels = [],
  picture = null,
  given = null; // the photograph that the page came with
let due = null; // the panels to draw before the screen is next refreshed; null: none
let ready = false; // whether all is laid out

/** Draw the panels that a test picks, once before the screen is next refreshed. */
function redraw(picks = () => true) {
  if (!ready) return;
  if (!due) {
    due = new Set();
    requestAnimationFrame(() => {
      const now = due;
      due = null;
      now.forEach((panel) => panel.draw());
    });
  }
  panels.filter(picks).forEach((panel) => due.add(panel));
}

function relayout() {
  if (!ready) return;
  panels.forEach((panel) => panel.layout());
  redraw();
}

function listenToControls() {
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("level").addEventListener("change", (event) => {
    const level = Number(event.target.value);
    select(level, unitAbove(level), true);
    hold(true);
  });
  byId("unit").addEventListener("input", ({ target }) => {
    const unit = target.value === "" ? -1 : Number(target.value);
    const { count, units } = levels[state.level];
    if (!Number.isInteger(unit) || unit < 0 || unit >= count) return;
    if (units && !units.includes(unit)) return; // it is masked
    select(state.level, unit, true);
    hold(true);
  });
  byId("space").addEventListener("change", (event) => {
    state.space = event.target.value;
    byId("zooming").hidden = state.space !== "visual";
    relayout();
  });
  byId("coloring").addEventListener("change", (event) => {
    state.coloring = event.target.value;
    redraw();
  });
  byId("through").addEventListener("change", (event) => {
    state.through = event.target.value;
    const { level, unit } = state;
    state.unit = -1; // to find its paths anew
    select(level, unit, true);
  });
  byId("zoom").addEventListener("input", (event) => {
    state.zoom = 2 ** Number(event.target.value);
    byId("zoomed").textContent = `${Number(state.zoom.toPrecision(2))}×`;
    event.target.setAttribute("aria-valuetext", `${Number(state.zoom.toPrecision(2))} times`);
    relayout();
  });
  byId("fixation").addEventListener("input", (event) => {
    if (event.target.value === "0") return;
    chooseFixation(Number(event.target.value) - 1);
    picture.reveal();
  });
  byId("clear").addEventListener("click", () => {
    state.held = false;
    select(state.level, -1, true);
  });
}

function listenToPage() {
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("keys").open) hold(false);
    if (event.key === "?" && !byId("keys").open) byId("keys").showModal();
  });
  const recolor = () => {
    chooseInk();
    redraw();
  };
  byId("theme").addEventListener("change", recolor);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);
  window.addEventListener("resize", relayout);
}

async function start() {
  for (const [index, { name }] of levels.entries())
    byId("level").add(new Option(`${index}. ${name}`, index));
  byId("ways").hidden = !shortcuts.length;
  byId("drawing").hidden = byId("on-cortex").hidden = !data.cortex;
  chooseInk();
  picture = new Picture();
  panels = [
    picture,
    new Samples(byId("kept-visual"), "visual"),
    ...(data.cortex ? [new Samples(byId("kept-cortical"), "cortical")] : []),
    ...levels.map((_, index) => new Level(index)),
  ];
  listenToControls();
  listenToPage();
  listenForPhotographs();
  select(data.start.level, data.start.unit, false);
  if (data.photograph) {
    const image = new Image();
    image.src = data.photograph.url;
    await image.decode();
    given = new Photo(image, { ...data.photograph, views: data.views });
  }
  ready = true;
  show(given);
  requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
}

start();
