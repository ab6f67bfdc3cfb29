// ---- the gaze -----------------------------------------------------------------------------------

/** Move the gaze to a place in the photograph, at its edge if that is beyond. */
function moveGaze(row, column) {
  const within = (value) => Math.min(1, Math.max(0, value));
  setGaze({ ...state.gaze, row: within(row), column: within(column) }, -1);
}

/** Move the gaze to where the network looked. */
function chooseFixation(index) {
  const { row, column, height, width } = state.photo.views[index];
  setGaze({ row, column, height, width }, index);
}

function setGaze(gaze, fixation) {
  const resized = gaze.width !== state.gaze?.width || gaze.height !== state.gaze.height;
  Object.assign(state, { gaze, fixation });
  seen = [];
  if (resized) picture.lights = null;
  redraw((panel) => panel.followsGaze);
  tellGaze();
}

function describeGaze() {
  const { gaze, fixation, photo } = state;
  const percent = (share) => `${Math.round(100 * share)} %`;
  const where = `${percent(gaze.column)} from the left, ${percent(gaze.row)} from the top`;
  if (fixation < 0) return `Gaze: ${where}`;
  return `Fixation ${fixation + 1} of ${photo.views.length}: ${where}`;
}

function tellGaze() {
  const { photo, fixation } = state,
    count = photo?.views.length ?? 0;
  byId("nothing").hidden = Boolean(photo);
  byId("frame").hidden = byId("kept").hidden = !photo;
  byId("choosing").hidden = count < 2;
  byId("coloring").options[2].disabled = !photo;
  if (!photo) return;
  byId("fixation").max = count;
  byId("fixation").min = fixation < 0 ? 0 : 1; // 0: at none of them
  byId("fixation").value = fixation + 1;
  byId("fixated").textContent = fixation < 0 ? `– of ${count}` : `${fixation + 1} of ${count}`;
  byId("fixation").setAttribute("aria-valuetext", byId("fixated").textContent);
  byId("kept-note").textContent = `${counted(levels[0].drawn, "sample")}, the finest at the gaze`;
  const held =
    photo.held.width < photo.width ? `, held at ${photo.held.width} × ${photo.held.height}` : "";
  const size = `${photo.width} × ${photo.height} pixels${held}`;
  byId("seen-note").textContent = [photo.name, size].filter(Boolean).join(", ");
  tellScores();
}

/** Show a photograph, the gaze where the network first looked, or at its centre. */
function show(photo) {
  state.photo = photo;
  state.gaze = photo?.center ?? null;
  if (photo) {
    if (photo.views.length) chooseFixation(0);
    else setGaze(photo.center, -1);
  }
  tellGaze();
  relayout();
  if (photo) picture.reveal();
}

function onGazeKey(event) {
  if (!state.photo || event.ctrlKey || event.altKey || event.metaKey) return;
  const { photo, gaze } = state,
    step = (event.shiftKey ? 0.1 : 0.01) * Math.min(photo.width, photo.height);
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const turn = { PageUp: -1, PageDown: 1 }[event.key],
    count = photo.views.length;
  if (moves[event.key]) {
    const [down, right] = moves[event.key];
    moveGaze(gaze.row + (down * step) / photo.height, gaze.column + (right * step) / photo.width);
  } else if (event.key === "Home") moveGaze(0.5, 0.5);
  else if (turn && count) {
    const next = state.fixation < 0 ? Math.min(0, turn) : state.fixation + turn;
    chooseFixation((next + count) % count);
  } else return;
  event.preventDefault();
  picture.reveal();
  byId("announcement").textContent = describeGaze();
}
