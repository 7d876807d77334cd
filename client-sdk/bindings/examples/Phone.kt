// A device on the command line: prints what it is sent, once, and obeys one order a line.
//
//     java -cp ... PhoneKt HOST:PORT CLIENT_ID DIRECTORY
//
// DIRECTORY keeps inbox and outbox. Orders: subscribe FILTER, publish TOPIC TEXT, post TOPIC TEXT, outbox,
// register VENDOR TOKEN, vendor-push ID, network-changed LABEL, foreground, background, heartbeat, close.

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import kotlinx.coroutines.withContext
import reveille.Client
import reveille.ClientException
import reveille.DeviceNetwork
import reveille.Learning
import reveille.NetworkState
import reveille.Options
import reveille.PushHints
import reveille.QoS
import reveille.Radio
import reveille.Registration
import reveille.VendorPush

fun say(line: String) = synchronized(System.out) {
    System.out.write("$line\n".toByteArray())
    System.out.flush()
}

suspend fun tellNetwork(client: Client) {
    while (true) {
        when (val state = client.nextNetwork()) {
            is NetworkState.Online -> say("network online")
            is NetworkState.Waiting -> say("network waiting ${state.retryIn} ${state.reason}")
            is NetworkState.Connecting -> {}
            is NetworkState.Closed -> return
        }
    }
}

suspend fun showMessages(client: Client) {
    while (true) {
        val message = client.nextMessage() ?: return
        val id = message.id()
        say("message ${id ?: "-"} ${message.topic()} ${message.title() ?: String(message.payload())}") // the notification
        try {
            message.handled()
            if (id != null && message.topic() == "\$push/message") client.shown(id)
        } catch (error: ClientException.Closed) {
            return // closed meanwhile: what is not handled comes again
        }
    }
}

suspend fun obey(client: Client, order: String, rest: String): String {
    val first = rest.substringBefore(' ')
    val text = rest.substringAfter(' ', "")
    when (order) {
        "subscribe" -> client.subscribe(rest, QoS.AT_LEAST_ONCE)
        "publish" -> client.publish(first, text.toByteArray(), QoS.AT_LEAST_ONCE, PushHints())
        "post" -> return client.post(first, text.toByteArray(), PushHints())
        "outbox" -> return client.outbox().let { "${it.waiting} ${it.refused} ${it.expired}" }
        "register" -> client.register(Registration(vendor = first, token = text, platform = "android", language = "zh-CN"))
        "vendor-push" -> {
            if (client.vendorPushReceived(rest) == VendorPush.DUPLICATE) return "duplicate"
            client.handled(rest)
            return "show"
        }
        "network-changed" -> client.networkChangedTo(DeviceNetwork(radio = Radio.G4, label = rest))
        "foreground" -> client.foreground()
        "background" -> client.background()
        "heartbeat" -> return client.heartbeat().let { "${it.network} ${it.interval.toSeconds()}" }
        else -> throw IllegalArgumentException("no such order: $order")
    }
    return ""
}

fun main(arguments: Array<String>) = runBlocking {
    val (endpoint, clientId, directory) = arguments
    val client = Client.connect(
        Options(
            clientId = clientId,
            host = endpoint.substringBeforeLast(':'),
            port = endpoint.substringAfterLast(':').toUShort(),
            inboxFile = "$directory/inbox",
            outboxFile = "$directory/outbox",
            learnedHeartbeat = Learning(file = "$directory/heartbeat"),
        ),
    )
    launch { tellNetwork(client) }
    launch { showMessages(client) }
    val orders = System.`in`.bufferedReader()
    while (true) {
        val line = withContext(Dispatchers.IO) { orders.readLine() }
        if (line == null || line == "close") break
        try {
            say("done ${obey(client, line.substringBefore(' '), line.substringAfter(' ', ""))}".trim())
        } catch (error: ClientException) {
            say("failed ${error::class.simpleName}")
        }
    }
    client.disconnect() // `close` is Kotlin's own: it lets the object go
    say("done")
}
