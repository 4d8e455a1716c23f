"""What the doctor of a node says, in English and Spanish: of each key a sentence and what to do about it."""

WORDS: dict[str, dict[str, tuple[str, str]]] = {
    "folder": {
        "en": ("The node's folder {path} is only for its owner.", ""),
        "es": ("La carpeta del nodo {path} es solo para su propietario.", ""),
    },
    "folder-open": {
        "en": ("Others may read the node's folder {path} (mode {mode}).", "chmod 700 {path}"),
        "es": ("Otros pueden leer la carpeta del nodo {path} (permisos {mode}).", "chmod 700 {path}"),
    },
    "folder-missing": {
        "en": (
            "The node's folder {path} is not there yet.",
            "Nothing: the node makes it at its first start.",
        ),
        "es": (
            "La carpeta del nodo {path} aún no existe.",
            "Nada: el nodo la crea al arrancar por primera vez.",
        ),
    },
    "secret-open": {
        "en": ("Others may read {path}, which holds a secret (mode {mode}).", "chmod 600 {path}"),
        "es": ("Otros pueden leer {path}, que guarda un secreto (permisos {mode}).", "chmod 600 {path}"),
    },
    "secret-missing": {
        "en": ("{path} can't be read.", "Make it, and let the node's user read it."),
        "es": ("No se puede leer {path}.", "Créelo y permita que lo lea el usuario del nodo."),
    },
    "root": {
        "en": ("This runs as root.", "Run the node as a user of its own: docker/ and systemd/ show how."),
        "es": (
            "El nodo se ejecuta como root.",
            "Ejecute el nodo con un usuario propio: docker/ y systemd/ muestran cómo.",
        ),
    },
    "listens": {
        "en": ("{what} listens on {address}:{port}.", ""),
        "es": ("{what} escucha en {address}:{port}.", ""),
    },
    "listens-plain": {
        "en": (
            "{what} listens on {address}:{port} without TLS: whoever is on the way can read and change everything.",
            "Add `tls`, or bind it to 127.0.0.1 behind a proxy or a tunnel.",
        ),
        "es": (
            "{what} escucha en {address}:{port} sin TLS: quien esté en el camino puede leerlo y cambiarlo todo.",
            "Añada `tls`, o déjelo en 127.0.0.1 detrás de un proxy o un túnel.",
        ),
    },
    "listens-behind-proxy": {
        "en": (
            "{what} listens on {address}:{port} without TLS, for a proxy: whoever is between them can read everything.",
            "Let only the proxy reach this port, or bind it to 127.0.0.1 if the proxy is on this machine.",
        ),
        "es": (
            "{what} escucha en {address}:{port} sin TLS, para un proxy: quien esté entre ambos puede leerlo todo.",
            "Permita que solo el proxy llegue a este puerto, o déjelo en 127.0.0.1 si el proxy está en esta máquina.",
        ),
    },
    "client-certificates-off": {
        "en": (
            "{what} takes clients without a certificate.",
            "Set tls.require_client: true, and tls.authority.",
        ),
        "es": ("{what} acepta clientes sin certificado.", "Ponga tls.require_client: true, y tls.authority."),
    },
    "no-peers": {
        "en": (
            "No peer may associate: every DICOM caller is refused.",
            "Add your PACS to `peers`, or set dicom: null.",
        ),
        "es": (
            "Ningún equipo puede asociarse: se rechaza toda llamada DICOM.",
            "Añada su PACS a `peers`, o ponga dicom: null.",
        ),
    },
    "peer-everywhere": {
        "en": ("Peer {name} may call from any address ({network}).", "Name the address of the device."),
        "es": (
            "El equipo {name} puede llamar desde cualquier dirección ({network}).",
            "Indique la dirección del equipo.",
        ),
    },
    "peer-wide": {
        "en": (
            "Peer {name} may call from a whole network ({network}).",
            "Name the addresses of the devices.",
        ),
        "es": (
            "El equipo {name} puede llamar desde toda una red ({network}).",
            "Indique las direcciones de los equipos.",
        ),
    },
    "peer-without-certificate": {
        "en": (
            "Peer {name} needs no certificate of its own: its AE title and address are taken on trust.",
            "Add the SHA-256 of its certificate to `certificates`.",
        ),
        "es": (
            "El equipo {name} no necesita un certificado propio: se confía en su título AE y su dirección.",
            "Añada el SHA-256 de su certificado a `certificates`.",
        ),
    },
    "peer": {"en": ("Peer {name} is bounded.", ""), "es": ("El equipo {name} está acotado.", "")},
    "no-users": {
        "en": (
            "Nobody can log in to the page: there are no users.",
            "freezeframe node user add NAME --role admin",
        ),
        "es": (
            "Nadie puede entrar en la página: no hay usuarios.",
            "freezeframe node user add NOMBRE --role admin",
        ),
    },
    "no-admin": {
        "en": ("No user is an administrator.", "freezeframe node user add NAME --role admin"),
        "es": ("Ningún usuario es administrador.", "freezeframe node user add NOMBRE --role admin"),
    },
    "users": {"en": ("{count} users may log in.", ""), "es": ("Pueden entrar {count} usuarios.", "")},
    "proxy-wide": {
        "en": (
            "Whoever calls from {network} may say who they are in the header {header}.",
            "Name only the proxy's own address in web.proxy.networks.",
        ),
        "es": (
            "Quien llame desde {network} puede decir quién es en la cabecera {header}.",
            "Ponga solo la dirección del proxy en web.proxy.networks.",
        ),
    },
    "metrics-wide": {
        "en": ("Metrics may be read from {network} without a login.", "Name the address of Prometheus."),
        "es": ("Las métricas se pueden leer desde {network} sin contraseña.", "Indique la dirección de Prometheus."),
    },
    "shadow": {
        "en": (
            "Shadow mode: everything runs and is recorded, nothing leaves.",
            "Set shadow: false to deliver results.",
        ),
        "es": (
            "Modo sombra: todo funciona y se registra, nada sale.",
            "Ponga shadow: false para entregar resultados.",
        ),
    },
    "no-destinations": {
        "en": ("Results go nowhere: there are no destinations.", "Add your PACS to `destinations`."),
        "es": ("Los resultados no van a ningún sitio: no hay destinos.", "Añada su PACS a `destinations`."),
    },
    "retention-off": {
        "en": ("Images are kept for ever.", "Set retention.image_days."),
        "es": ("Las imágenes se guardan para siempre.", "Ponga retention.image_days."),
    },
    "disk": {"en": ("{free:.0f} GB are free for images.", ""), "es": ("Hay {free:.0f} GB libres para imágenes.", "")},
    "disk-little": {
        "en": ("Only {free:.1f} GB are free; below {least:g} GB images are refused.", "Free some space."),
        "es": (
            "Solo hay {free:.1f} GB libres; por debajo de {least:g} GB se rechazan imágenes.",
            "Libere espacio.",
        ),
    },
    "network-disk": {
        "en": (
            "SQLite lies on a network file system ({kind}), whose locks and write-ahead log can't be relied on.",
            "Choose a local folder, or PostgreSQL.",
        ),
        "es": (
            "SQLite está en un sistema de archivos en red ({kind}), cuyos bloqueos no son fiables.",
            "Elija una carpeta local, o PostgreSQL.",
        ),
    },
    "database": {
        "en": ("The database answers, and is of this release.", ""),
        "es": ("La base de datos responde y es de esta versión.", ""),
    },
    "database-broken": {
        "en": ("{reason}", "Without the database no image is taken."),
        "es": ("La base de datos no sirve: {reason}", "Sin la base de datos no se acepta ninguna imagen."),
    },
    "database-plain": {
        "en": (
            "The database {host} is on another machine; what goes there is not encrypted.",
            "Put it on this machine, or in a tunnel or a private network.",
        ),
        "es": (
            "La base de datos {host} está en otra máquina; lo que va hacia ella no va cifrado.",
            "Póngala en esta máquina, o en un túnel o una red privada.",
        ),
    },
    "clock": {
        "en": (
            "This machine's clock and the database's differ by {seconds:.0f} s.",
            "Synchronise both (NTP).",
        ),
        "es": (
            "El reloj de esta máquina y el de la base de datos difieren {seconds:.0f} s.",
            "Sincronícelos (NTP).",
        ),
    },
    "bundle": {
        "en": ("Bundle {name} opens ({title}, {sha256}).", ""),
        "es": ("El paquete {name} se abre ({title}, {sha256}).", ""),
    },
    "bundle-broken": {"en": ("Bundle {name}: {reason}", ""), "es": ("Paquete {name}: {reason}", "")},
    "bundle-unsigned": {
        "en": (
            "Bundle {name} is used without checking a signature.",
            "Sign it with `freezeframe bundle sign`, and name the public key in `bundles`.",
        ),
        "es": (
            "El paquete {name} se usa sin comprobar ninguna firma.",
            "Fírmelo con `freezeframe bundle sign` e indique la clave pública en `bundles`.",
        ),
    },
    "operating-point": {
        "en": ("Bundle {name} has no operating point {point}.", "One of: {known}."),
        "es": ("El paquete {name} no tiene el punto de operación {point}.", "Uno de: {known}."),
    },
    "certificate": {
        "en": ("The certificate {path} is valid until {until}.", ""),
        "es": ("El certificado {path} es válido hasta el {until}.", ""),
    },
    "certificate-ends": {
        "en": ("The certificate {path} ends on {until}, in {days} days.", "Renew it."),
        "es": ("El certificado {path} termina el {until}, en {days} días.", "Renuévelo."),
    },
    "certificate-ended": {
        "en": ("The certificate {path} ended on {until}.", "Renew it."),
        "es": ("El certificado {path} terminó el {until}.", "Renuévelo."),
    },
    "certificate-broken": {
        "en": ("{path} holds no certificate that can be read.", "Give a PEM file."),
        "es": ("{path} no contiene ningún certificado legible.", "Indique un archivo PEM."),
    },
    "reachable": {"en": ("{name} answers.", ""), "es": ("{name} responde.", "")},
    "unreachable": {
        "en": (
            "{name} ({address}) does not answer: {reason}.",
            "Check address, port, firewall, AE titles and login.",
        ),
        "es": (
            "{name} ({address}) no responde: {reason}.",
            "Revise dirección, puerto, cortafuegos, títulos AE y claves.",
        ),
    },
    "sends-plain": {
        "en": ("What goes to {name} ({address}) is not encrypted.", "Use TLS (tls, or https)."),
        "es": ("Lo que va a {name} ({address}) no va cifrado.", "Use TLS (tls, o https)."),
    },
    "memory": {
        "en": (
            "{workers} workers may take {wanted:.0f} GB together; this machine has {there:.0f} GB.",
            "Set limits.workers or limits.memory_gigabytes lower.",
        ),
        "es": (
            "{workers} procesos pueden ocupar {wanted:.0f} GB en total; esta máquina tiene {there:.0f} GB.",
            "Baje limits.workers o limits.memory_gigabytes.",
        ),
    },
    "open-files": {
        "en": (
            "This process may open only {limit} files; {wanted} are needed.",
            "Raise it (ulimit -n, LimitNOFILE).",
        ),
        "es": (
            "Este proceso solo puede abrir {limit} archivos; hacen falta {wanted}.",
            "Súbalo (ulimit -n, LimitNOFILE).",
        ),
    },
}  # fmt: skip
"""Key -> language -> (sentence, action); both are formatted with the finding's values."""
