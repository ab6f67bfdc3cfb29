// ---- photographs of one's own -------------------------------------------------------------------

/** Show a message, or none. */
function say(message) {
  byId("message").textContent = message;
  byId("message").hidden = !message;
}

/** Show the photograph in a file, which stays in this page, or say why that cannot be. */
async function openFile(file) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    say(
      `“${file.name}” is not an image that this browser can read. ` +
        "Open a photograph, such as a JPEG, PNG or WebP file.",
    );
    return;
  }
  say("");
  const { width, height } = image;
  show(new Photo(image, { width, height, name: file.name }));
  image.close();
  byId("back").hidden = !given;
  byId("announcement").textContent = `Photograph ${file.name}, ${width} by ${height} pixels.`;
}

/** Open what is dropped on the page. */
function onDrop(event) {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const [file] = event.dataTransfer.files;
  if (file) openFile(file);
  else
    say("What was dropped is not a file. Drop a photograph’s file, or choose “Open photograph…”.");
}

function listenForPhotographs() {
  byId("file").addEventListener("change", ({ target }) => {
    if (target.files.length) openFile(target.files[0]);
    target.value = ""; // so that the same file can be opened again
  });
  byId("back").addEventListener("click", () => {
    say("");
    byId("back").hidden = true;
    show(given);
    picture.canvas.focus();
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", onDrop);
}
