// Show the address that this page came from, so that the line can be pasted as it is.
for (const place of document.querySelectorAll(".origin")) place.textContent = location.origin;
