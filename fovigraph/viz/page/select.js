// ---- the unit that is chosen --------------------------------------------------------------------

function select(level, unit, aloud) {
  if (level !== state.level || unit !== state.unit) {
    Object.assign(state, { level, unit, field: unit < 0 ? null : pathsOf(level, unit) });
    redraw();
  }
  byId("level").value = level;
  byId("unit").max = levels[level].count - 1;
  byId("unit").value = unit < 0 ? "" : unit;
  byId("status").textContent = describe();
  if (aloud) byId("announcement").textContent = describe();
}

function describe() {
  const { level, unit, field } = state;
  if (!field)
    return "No unit is chosen: point at one, or go to a level with the Tab key and press an arrow key.";
  const [x, y] = levels[level].places.visual.subarray(2 * unit, 2 * unit + 2);
  const round = (value) => Math.abs(value).toFixed(Math.abs(value) < 1 ? 2 : 1);
  const share = (i) =>
    `${reached(i).toLocaleString("en")} of ${levels[i].drawn.toLocaleString("en")}`;
  const aside =
    Math.hypot(x, y) < 1e-6
      ? "at the point of gaze"
      : `${round(x)}° ${x < 0 ? "left of" : "right of"} the point of gaze and ${round(y)}° ${y < 0 ? "below" : "above"} it`;
  const parts = [`Unit ${unit} of ${levels[level].name}, ${aside}.`];
  if (level > 0) parts.push(`It sees ${share(0)} samples of the ${levels[0].name}.`);
  const top = levels.length - 1;
  if (level < top) parts.push(`It reaches ${share(level + 1)} units of ${levels[level + 1].name}.`);
  if (state.held) parts.push("Held: click it again or press Esc to let go.");
  return parts.join(" ");
}

function hold(held) {
  state.held = held;
  byId("status").textContent = describe();
}

/** Choose a unit and hold it, or let it go if it is held already. */
function press(level, unit) {
  const again = state.held && level === state.level && unit === state.unit;
  select(level, unit, true);
  hold(!again);
}

/** The unit of another level that is at the same place. */
function unitAbove(level) {
  const places = levels[state.level].places.visual;
  const [x, y] = state.unit < 0 ? [0, 0] : places.subarray(2 * state.unit, 2 * state.unit + 2);
  return nearestUnit(level, "visual", x, y);
}

function goTo(level) {
  if (level < 0 || level >= levels.length) return;
  select(level, unitAbove(level), true);
  panels.find((panel) => panel instanceof Level && panel.index === level).canvas.focus();
}

/** Select the next unit in a direction of the space that is drawn. */
function step(right, up) {
  const frame = frameOf(state.level, state.space),
    places = levels[state.level].places[state.space];
  if (state.unit < 0) return goToGaze();
  let best = -1,
    most = 0.3;
  for (const cell of frame.delaunay.neighbors(cellOf(frame, state.unit))) {
    const near = unitOf(frame, cell),
      x = places[2 * near] - places[2 * state.unit],
      y = places[2 * near + 1] - places[2 * state.unit + 1];
    const along = (x * right + y * up) / Math.hypot(x, y);
    if (along > most) [best, most] = [near, along];
  }
  if (best >= 0) select(state.level, best, true);
}

/** Select the unit of this level that is nearest to the point of gaze. */
function goToGaze() {
  select(state.level, nearestUnit(state.level, "visual", 0, 0), true);
}

function onLevelKey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const climb = { PageUp: 1, PageDown: -1, ...(event.shiftKey && { ArrowUp: 1, ArrowDown: -1 }) };
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (climb[event.key]) goTo(state.level + climb[event.key]);
  else if (moves[event.key]) step(...moves[event.key]);
  else if (event.key === "Home") goToGaze();
  else if (event.key === "Enter") hold(!state.held);
  else return;
  event.preventDefault();
}
