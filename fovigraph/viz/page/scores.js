// ---- class scores -------------------------------------------------------------------------------

const MOST_CLASSES = 5;

/** The indices of the largest values, the largest first. */
function largest(values, count) {
  const order = Array.from(values.keys()).sort((i, j) => values[j] - values[i]);
  return order.slice(0, count);
}

/** Show the probabilities at this fixation, if they were computed, and of all together. */
function tellScores() {
  if (!scores) return;
  byId("scores").hidden = false;
  const { fixation, photo } = state,
    own = photo !== given,
    count = given.views.length;
  const here = own || fixation < 0 ? null : scores.fixations[fixation],
    together = own || count < 2 ? null : scores.together;
  const known = here ?? together;
  const computed =
    "they were computed beforehand, " +
    (count > 1 ? `at the ${count} numbered fixations only.` : "at one fixation only.");
  byId("scores-note").textContent = own
    ? "No scores for this photograph: the page does not hold the network’s weights."
    : here
      ? `Probabilities at fixation ${fixation + 1}` +
        (together ? `; orange: all ${count} fixations together.` : ".")
      : `No scores at this gaze: ${computed}` + (together ? " Orange: all of them together." : "");
  const table = byId("scores").querySelector("table");
  table.hidden = !known;
  if (!known) return;
  table.querySelectorAll(".all").forEach((each) => {
    each.hidden = !together;
  });
  const rows = largest(known, MOST_CLASSES).map((i) => scoreRow(i, here?.[i], together?.[i]));
  table.querySelector("tbody").replaceChildren(...rows);
}

function scoreRow(index, here, together) {
  const row = document.createElement("tr");
  const cell = (kind, text = "") => {
    const made = row.appendChild(document.createElement(kind));
    made.textContent = text;
    return made;
  };
  const percent = (share) => (share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);
  const name = cell("th", scores.classes[index]);
  name.scope = "row";
  name.title = scores.classes[index];
  const scale = cell("td").appendChild(document.createElement("div"));
  scale.className = "scale";
  if (here !== undefined)
    scale.appendChild(document.createElement("i")).style.width = `${100 * here}%`;
  if (together !== undefined)
    scale.appendChild(document.createElement("b")).style.left = `${100 * together}%`;
  cell("td", percent(here)).className = "number";
  if (together !== undefined) cell("td", percent(together)).className = "number";
  return row;
}
