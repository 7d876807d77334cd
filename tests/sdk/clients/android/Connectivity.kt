// What the samples in docs/sdk/android.md use of Android, so that they compile without it.
package android.net

class Network

abstract class NetworkCapabilities {
    abstract fun hasTransport(transport: Int): Boolean

    companion object {
        const val TRANSPORT_WIFI = 1
        const val TRANSPORT_ETHERNET = 3
    }
}

abstract class ConnectivityManager {
    open class NetworkCallback {
        open fun onCapabilitiesChanged(network: Network, capabilities: NetworkCapabilities) {}
    }

    abstract fun registerDefaultNetworkCallback(callback: NetworkCallback)
}
