// ---- the graph ----------------------------------------------------------------------------------

/** The graphs that paths may take into a level: its step's, and those of its shortcuts. */
function graphsInto(level) {
  const steps = level ? [graphs[level - 1]] : [],
    shortcuts = shortcutsInto(level);
  if (state.through === "steps" || !shortcuts.length) return steps;
  return state.through === "shortcuts" ? shortcuts : [...steps, ...shortcuts];
}

/** Paths between a unit and every unit of every level, by count. */
function pathsOf(level, unit) {
  const paths = levels.map((each) => new Float64Array(each.count));
  paths[level][unit] = 1;
  for (let i = level; i > 0; i--)
    for (const { below, ptr, src } of graphsInto(i))
      for (let dst = 0; dst < paths[i].length; dst++) {
        const along = paths[i][dst];
        if (along) for (let e = ptr[dst]; e < ptr[dst + 1]; e++) paths[below][src[e]] += along;
      }
  for (let i = level + 1; i < levels.length; i++)
    for (const { below, ptr, src } of graphsInto(i)) {
      if (below < level) continue; // around the unit's level
      for (let dst = 0; dst < paths[i].length; dst++)
        for (let e = ptr[dst]; e < ptr[dst + 1]; e++) paths[i][dst] += paths[below][src[e]];
    }
  return paths;
}

/** How many of a level's units are connected to the one that is selected. */
function reached(level) {
  return state.field[level].reduce((sum, paths) => sum + (paths > 0), 0);
}

/** The mean colour of what leads to every unit of the next level, [N · 3]. */
function meansAbove({ ptr, src }, below) {
  const above = new Uint8ClampedArray(3 * (ptr.length - 1));
  for (let dst = 0; dst < ptr.length - 1; dst++) {
    let r = 0,
      g = 0,
      b = 0;
    for (let e = ptr[dst]; e < ptr[dst + 1]; e++) {
      const at = 3 * src[e];
      r += below[at];
      g += below[at + 1];
      b += below[at + 2];
    }
    const count = Math.max(1, ptr[dst + 1] - ptr[dst]);
    above.set([r / count, g / count, b / count], 3 * dst);
  }
  return above;
}

let seen = []; // the colours of the levels' units at this gaze, from the retina up, once asked for

/** The colours of a level's units at this gaze: the mean of what leads to each, [N · 3]. */
function colorsOf(level) {
  if (!state.photo) return null;
  if (!seen.length) seen = [sampled(state.photo, state.gaze)];
  while (seen.length <= level)
    seen.push(meansAbove(graphs[seen.length - 1], seen[seen.length - 1]));
  return seen[level];
}
