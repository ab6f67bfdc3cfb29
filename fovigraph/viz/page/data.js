"use strict";
// What the page holds, and what is shown of it. Places are degrees in the visual field, or on the
// flat cortex in its own unit, x to the right and y up.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

function decode(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function decodeGraph(graph) {
  return {
    ...graph,
    ptr: decode(graph.ptr, Uint32Array),
    src: decode(graph.src, graph.wide ? Uint32Array : Uint16Array),
  };
}

const graphs = data.graphs.map((graph, below) => ({ below, ...decodeGraph(graph) }));
const shortcuts = data.shortcuts.map(decodeGraph);
const levels = data.levels.map((level) => {
  const visual = decode(level.visual, Float32Array);
  const units = level.units && decode(level.units, Uint32Array); // all that are not masked
  return {
    name: level.name,
    count: visual.length / 2,
    units,
    drawn: units ? units.length : visual.length / 2,
    places: { visual, cortical: decode(level.cortical, Float32Array) },
    frames: {},
  };
});
const { retina, scores } = data;
retina.places = decode(retina.places, Float32Array);
retina.cells &&= decode(retina.cells, Float32Array);
retina.saturation &&= decode(retina.saturation, Float32Array);
if (retina.pool) {
  retina.pool = decodeGraph(retina.pool);
  retina.pool.weight = decode(retina.pool.weight, Float32Array);
}
if (scores) {
  const all = decode(scores.fixations, Float32Array),
    count = scores.classes.length;
  scores.fixations = data.views.map((_, i) => all.subarray(i * count, (i + 1) * count));
  scores.together = decode(scores.together, Float32Array);
}

const state = {
  level: 0,
  unit: -1,
  held: false, // whether pointing at another unit changes nothing
  field: null, // per level: paths to or from the unit, [N]; null: nothing is selected
  space: "visual",
  coloring: "paths",
  through: "all", // what paths lead through: "all" connections, "steps" alone, or "shortcuts"
  zoom: 1,
  photo: null, // the Photo that is shown
  gaze: null, // { row, column } as fractions of it, and { height, width } of the view in its pixels
  fixation: -1, // the index of the fixation that the gaze is at; -1: none
};

/** The graphs that lead into a level, not from the level below it in the order of the steps. */
function shortcutsInto(level) {
  return shortcuts.filter(({ above }) => above === level);
}

/** A count and its noun. */
function counted(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
