"use strict";
const at = (id) => document.getElementById(id);
const model = JSON.parse(at("model").textContent);
const scene = at("scene"), eye = at("eye"), video = at("video");
const pen = scene.getContext("2d", { willReadFrequently: true });
const dots = eye.getContext("2d");
const LONGEST = 640;  // pixels of the image that is sent

let source = null;  // an image, or the video
let gaze = null;    // [row, column] as fractions, or null: the network's own
let shown = [];     // where it looked, as it says
let asking = false, changed = false;

/* Half the distance from every node to the nearest other one, in radii of the field. */
const halves = model.nodes.map(([x, y], i) => {
  let least = Infinity;
  model.nodes.forEach(([u, v], j) => {
    const apart = (x - u) ** 2 + (y - v) ** 2;
    if (j !== i && apart > 0 && apart < least) least = apart;
  });
  return Math.sqrt(least) / 2;
});

function fit(width, height) {
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  scene.width = Math.max(1, Math.round(width * scale));
  scene.height = Math.max(1, Math.round(height * scale));
}

function draw() {
  if (!source) return;
  pen.drawImage(source, 0, 0, scene.width, scene.height);
  const pixels = pen.getImageData(0, 0, scene.width, scene.height);
  sample(pixels, gaze ?? shown[0] ?? [0.5, 0.5]);
  const places = gaze ? [gaze] : shown;
  places.forEach(([row, column], i) => {
    const x = column * scene.width, y = row * scene.height;
    for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(x, y, 9, 0, 7);
      pen.stroke();
    }
    if (places.length > 1) {
      pen.font = "bold 12px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.lineWidth = 3;
      pen.strokeStyle = "#000";
      pen.strokeText(i + 1, x, y);
      pen.fillStyle = "#fff";
      pen.fillText(i + 1, x, y);
    }
  });
}

function sample({ data, width, height }, [row, column]) {
  const radius = eye.width / 2 - 2;
  const [tall, wide] = model.view ?? Array(2).fill(Math.min(width, height));
  dots.clearRect(0, 0, eye.width, eye.height);
  model.nodes.forEach(([x, y], i) => {
    const u = Math.floor(column * width + (x * wide) / 2);
    const v = Math.floor(row * height - (y * tall) / 2);
    if (u < 0 || v < 0 || u >= width || v >= height) return;
    const p = 4 * (v * width + u);
    dots.fillStyle = `rgb(${data[p]} ${data[p + 1]} ${data[p + 2]})`;
    dots.beginPath();
    dots.arc(eye.width / 2 + x * radius, eye.height / 2 - y * radius,
      Math.max(0.7, halves[i] * radius * 1.15), 0, 7);
    dots.fill();
  });
}

function changes() {
  changed = true;
  if (!asking) ask();
}

async function ask() {
  asking = true;
  try {
    while (changed && source) {
      changed = false;
      pen.drawImage(source, 0, 0, scene.width, scene.height);
      const file = await new Promise((done) => scene.toBlob(done, "image/jpeg", 0.92));
      const where = gaze ? `&fixations=${encodeURIComponent(JSON.stringify([gaze]))}` : "";
      const began = performance.now();
      const answer = await fetch(`predict?top=5${where}`, { method: "POST", body: file });
      const told = await answer.json();
      if (answer.ok) tell(told, performance.now() - began);
      else at("state").textContent = told.error ?? `The server said ${answer.status}.`;
      if (answer.status === 429) {
        changed = true;
        await new Promise((done) => setTimeout(done, 1000));
      }
      draw();
    }
  } catch {
    at("state").textContent = "The server does not answer.";
  }
  asking = false;
}

function tell(told, milliseconds) {
  shown = told.fixations.map(({ row, column }) => [row, column]);
  const looks = `${shown.length} fixation${shown.length > 1 ? "s" : ""}`;
  at("state").textContent = `${looks}, ${milliseconds.toFixed(0)} ms.`;
  at("classes").replaceChildren(...told.top.map(({ class: name, probability }) => {
    const row = document.createElement("tr"), bar = document.createElement("meter");
    bar.value = probability;
    bar.setAttribute("aria-label", name);
    for (const content of [name, bar, `${(100 * probability).toFixed(1)} %`]) {
      row.insertCell().append(content);
    }
    return row;
  }));
}

function look(row, column) {
  gaze = [Math.min(1, Math.max(0, row)), Math.min(1, Math.max(0, column))];
  draw();
  changes();
}

function show(what, width, height) {
  source = what;
  fit(width, height);
  [gaze, shown] = [null, []];
  draw();
  changes();
}

function closeCamera() {
  video.srcObject?.getTracks().forEach((track) => track.stop());
  video.srcObject = null;
}

scene.addEventListener("pointermove", (event) => {
  const box = scene.getBoundingClientRect();
  if (source) look((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
});
scene.addEventListener("pointerleave", () => {
  gaze = null;
  draw();
  changes();
});
scene.addEventListener("keydown", (event) => {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const step = steps[event.key];
  if (!step || !source) return;
  event.preventDefault();
  const [row, column] = gaze ?? [0.5, 0.5];
  look(row + step[0] / 20, column + step[1] / 20);
});
at("file").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  closeCamera();
  try {
    const image = await createImageBitmap(file);
    show(image, image.width, image.height);
  } catch {
    at("state").textContent = `${file.name} is no image that this browser can read.`;
  }
});
at("camera").addEventListener("click", async () => {
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) {
    at("state").textContent = `No camera: ${error.message}`;
    return;
  }
  await video.play();
  show(video, video.videoWidth, video.videoHeight);
  const next = () => {
    if (source !== video || !video.srcObject) return;
    draw();
    changes();
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
});
