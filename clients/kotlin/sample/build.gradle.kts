// clients/java/build.sh, then clients/kotlin/fetch.sh and build.sh make the two jars; a bundle of `export --target onnx` is the folder
// src/main/assets/bundle.
plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.1.0"
}

android {
    namespace = "mobileclip.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "mobileclip.sample"
        minSdk = 28 // ImageDecoder's; the library needs 24
        targetSdk = 35
    }
    buildTypes {
        release {
            isMinifyEnabled = true // the rules come with the jars
            proguardFiles(getDefaultProguardFile("proguard-android-optimize.txt"))
        }
    }
    androidResources { noCompress += "onnx" }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }
    kotlinOptions { jvmTarget = "1.8" }
}

dependencies {
    implementation(files("../../java/build/mobileclip.jar", "../build/mobileclip-kotlin.jar"))
    implementation("com.microsoft.onnxruntime:onnxruntime-android:1.29.0")
}
